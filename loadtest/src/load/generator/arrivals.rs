//! What arrives at a session, entered into its books.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use crate::load::{
    books::{Balance, Book, Entry},
    clock::now_ns,
    payload::Stamp,
    tally::Tally,
    transport::Sink,
};

/// What all sessions of a process share.
pub(super) struct Shared {
    /// The run; other runs' events do not count.
    pub(super) run: u32,
    /// Everything that came, also twice or wrongly.
    pub(super) came: Rc<Cell<u64>>,
    /// What came for the first time and may be due.
    pub(super) first: Cell<u64>,
    /// When something came last.
    pub(super) last_ns: Cell<u64>,
    pub(super) tally: RefCell<Tally>,
}

/// The books of one session: for each of its receivers, in ascending order, one per publisher.
pub(super) struct Arrivals {
    shared: Rc<Shared>,
    receivers: Vec<u32>,
    books: Vec<Vec<Book>>,
    /// Deliveries that no book exists for.
    strange: u64,
    now_ns: u64,
}

impl Arrivals {
    /// For receivers with the places in each publisher's pool that concern them.
    pub(super) fn new(shared: &Rc<Shared>, pool_len: u32, due: &[(u32, Vec<Arc<[u32]>>)]) -> Self {
        let books = due.iter().map(|(_, due)| due.iter().map(|places| Book::new(pool_len, places.clone())).collect());
        Self {
            shared: shared.clone(),
            receivers: due.iter().map(|(receiver, _)| *receiver).collect(),
            books: books.collect(),
            strange: 0,
            now_ns: 0,
        }
    }

    /// The books' sum, `of_book` giving that of one: a receiver's, for a publisher.
    pub(super) fn balance(&self, mut of_book: impl FnMut(u32, usize, &Book) -> Balance) -> Balance {
        let mut balance = Balance { unexpected: self.strange, ..Balance::default() };
        for (receiver, books) in self.receivers.iter().zip(&self.books) {
            for (publisher, book) in books.iter().enumerate() {
                balance += of_book(*receiver, publisher, book);
            }
        }
        balance
    }

    fn book(&mut self, receiver: u32, publisher: u32) -> Option<&mut Book> {
        let row = match self.receivers.as_slice() {
            [only] if *only == receiver => 0,
            receivers => receivers.binary_search(&receiver).ok()?,
        };
        self.books[row].get_mut(publisher as usize)
    }
}

impl Sink for Arrivals {
    fn batch(&mut self) {
        self.now_ns = now_ns();
        self.shared.last_ns.set(self.now_ns);
    }

    fn payload(&mut self, receiver: u32, payload: &[u8]) {
        self.shared.came.update(|came| came + 1);
        let stamp = Stamp::read(payload).filter(|stamp| stamp.run == self.shared.run);
        let book = stamp.and_then(|stamp| Some((stamp, self.book(receiver, stamp.publisher)?)));
        let Some((stamp, book)) = book else {
            self.strange += 1;
            return;
        };
        if book.enter(stamp.sequence) == Entry::First {
            self.shared.first.update(|first| first + 1);
            self.shared.tally.borrow_mut().enter(stamp.sent_ns, self.now_ns);
        }
    }
}
