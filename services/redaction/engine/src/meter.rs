//! Counts what is done for a text, and refuses what is too much, so that no rule and no text takes long.
//!
//! The unit is a read: an automaton's step over one byte, one to two nanoseconds. What else is done counts as many reads as
//! take that time (`benchmarks/redaction.py --worst` looks for what does not).

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Since the process began.
static READS: AtomicU64 = AtomicU64::new(0);

/// How much was read: beside the bytes that came, it tells whether somebody sends texts that are made to be slow.
pub fn reads() -> u64 {
    READS.load(Ordering::Relaxed)
}

/// Reads of a text, on average of its bytes. Prose with 24 custom rules, dense findings and what nobody sees takes 80; with
/// the built-in rules alone examples of theirs side by side take 50, and nothing but the shortest findings 120.
pub const MOST_READS: usize = 128;
/// Matches of rules without a trigger in one block of text: a rule that finds more would find nearly everything.
pub const MOST_MATCHES: usize = 1024;
/// Bytes: for a shorter text as much may be read as for one of that many, since findings may free each other one by one.
const SHORT: usize = 4096;
/// Bytes of a piece of a stream, likewise: each piece takes its time.
const PIECE: usize = 64;
/// Reads that a look or a match counts, beside those of its bytes.
pub const STEP: usize = 48;
/// Reads that a finding counts, beside one step whenever more is looked for, up to what Python does with it.
pub const FINDING: usize = 80;

/// What is refused.
pub enum TooMuch {
    /// Matches; the number of the rule that went too far.
    Matches(u32),
    Reads,
}

/// How many matches of rules without a trigger, and how many reads, are left for a block of text.
pub type Left = (usize, usize);

/// What may still be done for a block of text.
pub struct Meter {
    matches: Cell<usize>,
    /// None: more was read.
    reads: Cell<Option<usize>>,
    most_reads: usize,
}

impl Drop for Meter {
    fn drop(&mut self) {
        READS.fetch_add((self.most_reads - self.left().1) as u64, Ordering::Relaxed);
    }
}

impl Meter {
    /// What is left of a block, if it was begun, and what so many bytes more may take.
    pub fn new(left: Option<Left>, bytes: usize) -> Self {
        let (matches, most_reads) = match left {
            Some((matches, reads)) => (matches, reads + MOST_READS * bytes.max(PIECE)),
            None => (MOST_MATCHES, MOST_READS * bytes.max(SHORT)),
        };
        Self { matches: Cell::new(matches), reads: Cell::new(Some(most_reads)), most_reads }
    }

    pub fn left(&self) -> Left {
        (self.matches.get(), self.reads.get().unwrap_or(0))
    }

    /// A rule has found one more.
    pub fn matched(&self, rule: u32) -> Result<(), TooMuch> {
        let left = self.matches.get().checked_sub(1).ok_or(TooMuch::Matches(rule))?;
        self.matches.set(left);
        Ok(())
    }

    /// So much more was read; `check` tells whether it is too much.
    pub fn read(&self, reads: usize) {
        self.reads.set(self.reads.get().and_then(|left| left.checked_sub(reads)));
    }

    pub fn check(&self) -> Result<(), TooMuch> {
        self.reads.get().map(drop).ok_or(TooMuch::Reads)
    }
}
