//! Whether any of a host's tasks has panicked: what it did, nobody does any more.

use tokio::sync::watch;

/// Counts panics. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Panics(watch::Sender<usize>);

/// Counts the panic by which it is dropped.
struct Guard(Panics);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.0.send_modify(|seen| *seen += 1);
        }
    }
}

impl Panics {
    /// The same work, whose panic is counted.
    pub(crate) fn watching<W: Future>(&self, work: W) -> impl Future<Output = W::Output> + use<W> {
        let guard = Guard(self.clone());
        async move {
            let _guard = guard;
            work.await
        }
    }

    /// Waits until there was one.
    pub(crate) async fn seen(&self) {
        // The sender is here.
        let _ = self.0.subscribe().wait_for(|seen| *seen > 0).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_seen_and_work_that_ends_or_is_given_up_is_not() {
        let panics = Panics::default();
        tokio::spawn(panics.watching(async {})).await.unwrap();
        let given_up = tokio::spawn(panics.watching(std::future::pending::<()>()));
        given_up.abort();
        assert!(given_up.await.unwrap_err().is_cancelled());
        assert!(tokio::time::timeout(Duration::from_millis(10), panics.seen()).await.is_err());
        let failing = tokio::spawn(panics.watching(async { panic!("as it must not") }));
        panics.seen().await;
        assert!(failing.await.unwrap_err().is_panic());
    }
}
