//! What a sequence of calls is made of. A step names things by small numbers, taken modulo what is
//! there, so that a sequence stays one when steps are left out of it.

use communication_service::pb::{
    ConversationStatus, MessageStatus, Priority, ReopenPolicy, Routing,
};

/// The etag that a call carries.
#[derive(Debug, Clone, Copy)]
pub enum Etag {
    None,
    Current,
    Stale,
}

/// Who acts: users first, then a bot, another service, and the caller itself.
pub type Who = usize;

/// A conversation, counted from the newest.
pub type Talk = usize;

/// One call.
#[derive(Debug, Clone)]
pub enum Step {
    Create {
        place: usize,
        named: bool,
        first: bool,
        priority: Priority,
        who: Who,
    },
    Receive(Talk, Who),
    Reply(Talk, Who),
    Note(Talk, Who),
    Assign(Talk, Etag, &'static str, &'static str),
    AutoAssign(Talk, Etag, bool),
    Qualify(Talk, Etag, Option<i32>, Who),
    Disqualify(Talk, Etag),
    Archive(Talk, Etag),
    Reopen(Talk, Etag),
    SetStatus(Talk, Etag, ConversationStatus),
    SetPriority(Talk, Etag, Priority),
    SetSubject(Talk, Etag, &'static str),
    SetLabels(Talk, Etag, Vec<&'static str>),
    Snooze(Talk, Etag, bool),
    Read(Talk, usize, i64),
    Receipt(Talk, usize, MessageStatus),
    /// Edits a message, counted from the newest.
    Amend(Talk, usize, Etag, Who),
    /// Deletes a message, for good or not.
    Delete(Talk, usize, Etag, bool, Who),
    /// Merges one conversation into another.
    Merge(Talk, Talk, Etag),
    /// Undoes a merge, counted from the newest.
    Undo(usize),
    Reopens(usize, ReopenPolicy),
    Routes(usize, Routing, usize),
    Agent(&'static str, Option<bool>, Option<i32>),
    /// Lets ten days pass over a conversation that is archived.
    Age(Talk),
    /// Sends a request of before once more.
    Repeat(usize),
    /// Uses a request id of before for something else.
    Misuse(usize),
    /// Calls for what is not there.
    Miss(usize),
    /// Compares everything.
    Look,
}

pub const USERS: [&str; 3] = ["ada", "jon", "mira"];

/// A small generator of numbers that a seed determines.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds begin far apart, and none begins at zero.
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let end = u64::try_from(end).unwrap();
        usize::try_from((self.0 >> 16) % end).unwrap()
    }

    pub fn of<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())].clone()
    }

    /// One of several, if there are any.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| self.of(of))
    }

    fn talk(&mut self) -> Talk {
        // The newer half the time among the newest, so that calls meet.
        let among = self.of(&[4, 64]);
        self.below(among)
    }

    fn etag(&mut self) -> Etag {
        self.of(&[
            Etag::None,
            Etag::None,
            Etag::None,
            Etag::Current,
            Etag::Stale,
        ])
    }

    /// A step at random.
    pub fn step(&mut self) -> Step {
        let talk = self.talk();
        let etag = self.etag();
        let who = self.below(6);
        let users = ["ada", "jon", "mira", "zoe", ""];
        let priorities = [
            Priority::Low,
            Priority::Normal,
            Priority::High,
            Priority::Urgent,
        ];
        match self.below(104) {
            0..10 => Step::Create {
                place: self.below(24),
                named: self.below(3) == 0,
                first: self.below(2) == 0,
                priority: self.of(&priorities),
                who,
            },
            10..26 => Step::Receive(talk, who),
            26..35 => Step::Reply(talk, who),
            35 => Step::Amend(talk, self.below(4), etag, who),
            36..38 => Step::Delete(talk, self.below(4), etag, self.below(3) == 0, who),
            38..41 => Step::Note(talk, who),
            41..46 => Step::Assign(talk, etag, self.of(&users), self.of(&["", "", "sales"])),
            46..52 => Step::AutoAssign(talk, etag, self.below(3) == 0),
            52..55 => Step::Qualify(talk, etag, self.of(&[None, Some(10), Some(90)]), who),
            55..58 => Step::Disqualify(talk, etag),
            58..65 => Step::Archive(talk, etag),
            65..70 => Step::Reopen(talk, etag),
            70..73 => {
                use ConversationStatus::{New, Open, Replied};
                Step::SetStatus(talk, etag, self.of(&[New, Open, Replied]))
            }
            73..75 => Step::SetPriority(talk, etag, self.of(&priorities)),
            75 => Step::SetSubject(talk, etag, self.of(&["", "Order", "Grüße"])),
            76..78 => {
                let labels = [vec![], vec!["vip"], vec!["vip", "refund"], vec!["refund"]];
                Step::SetLabels(talk, etag, self.of(&labels))
            }
            78 => Step::Snooze(talk, etag, self.below(3) > 0),
            79..85 => {
                let user = self.below(USERS.len());
                let sequence = self.of(&[0, 0, 1, 2, 3, 5, 8, 1_000]);
                Step::Read(talk, user, sequence)
            }
            85..91 => {
                use MessageStatus::{Delivered, Failed, Read, Sent};
                let status = self.of(&[Sent, Delivered, Read, Failed]);
                Step::Receipt(talk, self.below(4), status)
            }
            91 => {
                use ReopenPolicy::{Always, Never, Within};
                Step::Reopens(self.below(2), self.of(&[Always, Within, Never]))
            }
            92 => {
                use Routing::{Fixed, LeastOpen, None, RoundRobin};
                let routing = self.of(&[None, Fixed, RoundRobin, LeastOpen]);
                Step::Routes(self.below(2), routing, self.below(32))
            }
            93 => {
                let capacity = self.of(&[None, Some(0), Some(1), Some(3), Some(20)]);
                let available = self.of(&[None, Some(true), Some(true), Some(false)]);
                Step::Agent(self.of(&USERS), available, capacity)
            }
            94 => Step::Age(talk),
            95 => Step::Repeat(self.below(8)),
            96 => Step::Misuse(self.below(8)),
            97 => Step::Miss(self.below(8)),
            98..101 => Step::Merge(talk, self.talk(), etag),
            101..103 => Step::Undo(self.below(4)),
            _ => Step::Look,
        }
    }
}
