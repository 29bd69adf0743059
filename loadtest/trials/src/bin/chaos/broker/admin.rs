//! As much HTTP as a broker's admin server asks for.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// The body of the answer to a GET.
pub(super) async fn get(admin: SocketAddr, path: &str) -> anyhow::Result<String> {
    let answer = async {
        let mut stream = TcpStream::connect(admin).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = timeout(PATIENCE, answer).await.with_context(|| format!("no answer to {path} in time"))??;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("half an answer to {path}"))?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        bail!("{path} is answered with {status}: {body}");
    }
    Ok(body.to_owned())
}

/// Connections on which nothing is asked.
pub(super) async fn crowd(admin: SocketAddr, connections: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut crowd = Vec::with_capacity(connections);
    for _ in 0..connections {
        // The system takes a connection before the server does; when its own queue is full, it takes no more.
        match timeout(Duration::from_millis(200), TcpStream::connect(admin)).await {
            Ok(stream) => crowd.push(stream?),
            Err(_) => break,
        }
    }
    Ok(crowd)
}

/// Adds up the samples of a metric whose labels contain `label`.
pub(super) fn sum(text: &str, name: &str, label: &str) -> f64 {
    let of_sample = |line: &str| {
        let (sample, value) = line.rsplit_once(' ')?;
        let (found, labels) = sample.split_once('{').unwrap_or((sample, ""));
        (found == name && labels.contains(label)).then(|| value.parse::<f64>().ok())?
    };
    text.lines().filter_map(of_sample).sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn samples_are_added_up() {
        let text = "# HELP a_total A\na_total{code=\"X\"} 2\na_total{code=\"Y\"} 3\nab_total 7\nplain 4\n";
        assert!((sum(text, "a_total", "") - 5.0).abs() < 1e-9);
        assert!((sum(text, "a_total", "\"Y\"") - 3.0).abs() < 1e-9);
        assert!((sum(text, "plain", "") - 4.0).abs() < 1e-9);
    }
}
