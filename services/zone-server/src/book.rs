//! Which zones are held under which numbers: the directory's, and the broker's.

use std::collections::BTreeMap;

use tokio::time::Instant;
use zonecast_client::{Zone, ZoneSpec};
use zonecast_protocol::directory::v1::{Rectangle, Zone as OwnedZone};

/// Zones that the directory says are ours, and subscriptions that are for none of them yet.
#[derive(Debug, Default)]
pub(crate) struct Book {
    last_id: u32,
    held: BTreeMap<u64, Held>,
    /// Subscribed to, and not known to be ours: since when.
    unowned: Vec<(ZoneSpec, Instant)>,
}

/// A zone of ours.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    pub(crate) owned: OwnedZone,
    /// What it is subscribed under. The broker may have handed over what was subscribed to already.
    pub(crate) subscribed: Vec<u32>,
}

/// What the directory's word makes necessary at the broker.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Mending {
    /// Ours, and not subscribed to.
    pub(crate) subscribe: Vec<OwnedZone>,
    /// Subscribed to, and not ours any more.
    pub(crate) unsubscribe: Vec<u32>,
}

/// The rectangle of a zone, as the broker has it; none of what is no rectangle.
pub(crate) fn zone(rectangle: Option<&Rectangle>) -> Option<Zone> {
    let Rectangle { min_x, min_y, max_x, max_y } = *rectangle?;
    Zone::new(min_x, min_y, max_x, max_y).ok()
}

fn is_for(spec: &ZoneSpec, owned: &OwnedZone) -> bool {
    spec.world() == owned.world && Some(spec.zone()) == zone(owned.rectangle.as_ref())
}

impl Book {
    /// A subscription of its own number.
    pub(crate) fn spec(&mut self, world: &str, zone: Zone) -> ZoneSpec {
        self.last_id += 1;
        ZoneSpec::new(self.last_id, world, zone)
    }

    /// It is about to be subscribed to, and whose it is will be seen.
    pub(crate) fn note_asked(&mut self, spec: ZoneSpec, now: Instant) {
        self.unowned.push((spec, now));
    }

    /// It is subscribed to, and whose it is will be seen.
    pub(crate) fn note_subscribed(&mut self, spec: ZoneSpec, now: Instant) {
        // The directory may have said already that it is ours.
        match self.held.values_mut().find(|held| is_for(&spec, &held.owned)) {
            Some(held) => held.subscribed.push(spec.id()),
            None => self.unowned.push((spec, now)),
        }
    }

    /// It is ours, subscribed under these numbers.
    pub(crate) fn note_owned(&mut self, owned: OwnedZone, subscribed: Vec<u32>) {
        self.unowned.retain(|(spec, _)| !subscribed.contains(&spec.id()));
        let before = self.held.remove(&owned.id);
        let subscribed = before.map(|held| held.subscribed).unwrap_or_default().into_iter().chain(subscribed).collect();
        self.held.insert(owned.id, Held { owned, subscribed });
    }

    /// These numbers are subscribed to no more.
    pub(crate) fn note_unsubscribed(&mut self, subscribed: &[u32]) {
        self.unowned.retain(|(spec, _)| !subscribed.contains(&spec.id()));
        self.held.values_mut().for_each(|held| held.subscribed.retain(|id| !subscribed.contains(id)));
    }

    /// Whether something is to be mended even if the directory says nothing new: a zone of ours that is not subscribed to, or
    /// a subscription that nobody made ours since this time.
    pub(crate) fn is_torn(&self, since: Instant) -> bool {
        self.held.values().any(|held| held.subscribed.is_empty())
            || self.unowned.iter().any(|(_, noted)| *noted < since)
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Held> {
        self.held.get(&id)
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<Held> {
        self.held.remove(&id)
    }

    /// All zones of ours, by id.
    pub(crate) fn all(&self) -> Vec<Held> {
        self.held.values().cloned().collect()
    }

    /// The directory says that exactly these are ours: those that are not subscribed to yet are noted as such, so that it is
    /// tried again where that fails. Subscriptions that nobody made ours since this time are given up.
    pub(crate) fn mend(&mut self, ours: &[OwnedZone], since: Instant) -> Mending {
        let mut mending = Mending::default();
        let is_deaf = |held: &&Held| held.subscribed.is_empty() && ours.iter().any(|owned| owned.id == held.owned.id);
        mending.subscribe.extend(self.held.values().filter(is_deaf).map(|held| held.owned.clone()));
        for owned in ours.iter().filter(|owned| !self.held.contains_key(&owned.id)).cloned().collect::<Vec<_>>() {
            let (matching, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.unowned).into_iter().partition(|(spec, _)| is_for(spec, &owned));
            self.unowned = rest;
            let subscribed: Vec<u32> = matching.iter().map(|(spec, _)| spec.id()).collect();
            if subscribed.is_empty() {
                mending.subscribe.push(owned.clone());
            }
            self.note_owned(owned, subscribed);
        }
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.held).into_iter().partition(|(id, _)| ours.iter().any(|owned| owned.id == *id));
        self.held = kept;
        mending.unsubscribe.extend(gone.into_values().flat_map(|held| held.subscribed));
        let (old, young): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.unowned).into_iter().partition(|(_, noted)| *noted < since);
        self.unowned = young;
        mending.unsubscribe.extend(old.into_iter().map(|(spec, _)| spec.id()));
        mending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn owned(id: u64, min_x: f64) -> OwnedZone {
        let rectangle = Some(Rectangle { min_x, min_y: 0.0, max_x: min_x + 1.0, max_y: 1.0 });
        OwnedZone { id, world: "earth".into(), rectangle, server: "one".into(), epoch: 1 }
    }

    fn spec(book: &mut Book, min_x: f64) -> ZoneSpec {
        book.spec("earth", Zone::new(min_x, 0.0, min_x + 1.0, 1.0).unwrap())
    }

    #[test]
    fn what_is_ours_is_subscribed_to_and_nothing_else() {
        let (mut book, now) = (Book::default(), Instant::now());
        let first = spec(&mut book, 0.0);
        book.note_owned(owned(7, 0.0), vec![first.id()]);
        // Handed over by the broker first, and by the directory then.
        book.note_subscribed(ZoneSpec::new(1 << 31, "earth", Zone::new(5.0, 0.0, 6.0, 1.0).unwrap()), now);
        let mending = book.mend(&[owned(7, 0.0), owned(8, 5.0)], now);
        assert_eq!(mending, Mending::default());
        assert_eq!(book.get(8).unwrap().subscribed, [1 << 31]);
        // By the directory first: subscribed to at once, and once more when the broker's word comes.
        let mending = book.mend(&[owned(7, 0.0), owned(8, 5.0), owned(9, 8.0)], now);
        assert_eq!(mending, Mending { subscribe: vec![owned(9, 8.0)], unsubscribe: Vec::new() });
        let second = spec(&mut book, 8.0);
        book.note_owned(owned(9, 8.0), vec![second.id()]);
        book.note_subscribed(ZoneSpec::new((1 << 31) + 1, "earth", Zone::new(8.0, 0.0, 9.0, 1.0).unwrap()), now);
        assert_eq!(book.get(9).unwrap().subscribed, [second.id(), (1 << 31) + 1]);
        // What is gone is given up, and so is in the end what never became ours.
        let stray = spec(&mut book, 50.0);
        book.note_subscribed(stray.clone(), now);
        let mending = book.mend(&[owned(7, 0.0)], now);
        assert_eq!(mending.unsubscribe, [1 << 31, second.id(), (1 << 31) + 1]);
        let mending = book.mend(&[owned(7, 0.0)], now + Duration::from_secs(1));
        assert_eq!(mending.unsubscribe, [stray.id()]);
    }

    #[test]
    fn what_could_not_be_done_is_done_later() {
        let (mut book, now) = (Book::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        // Its subscription fails: it is asked for again.
        for _ in 0..2 {
            let mending = book.mend(&[owned(7, 0.0)], now);
            assert_eq!(mending, Mending { subscribe: vec![owned(7, 0.0)], unsubscribe: Vec::new() });
            assert!(book.is_torn(now));
        }
        let first = spec(&mut book, 0.0);
        book.note_owned(owned(7, 0.0), vec![first.id()]);
        assert!(!book.is_torn(later));
        // A broker does not grant it again.
        book.note_unsubscribed(&[first.id()]);
        assert!(book.is_torn(now));
        assert_eq!(book.mend(&[owned(7, 0.0)], now).subscribe, [owned(7, 0.0)]);
        assert_eq!(book.mend(&[], now), Mending::default(), "nor is it ours any more");
        // Subscribed to for a claim of which nothing more is heard.
        let claimed = spec(&mut book, 5.0);
        book.note_subscribed(claimed.clone(), now);
        assert!(!book.is_torn(now) && book.is_torn(later));
        book.note_owned(owned(8, 5.0), vec![claimed.id()]);
        assert!(!book.is_torn(later));
    }
}
