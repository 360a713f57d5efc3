//! Finds where rules may have a match: every place where a rule's trigger starts.

use regex_automata::dfa::Automaton;
use regex_automata::util::primitives::StateID;
use regex_automata::{Anchored, MatchKind};

use crate::pattern::{self, AHEAD, Automata};

/// Bytes of the automaton of one trigger.
const MOST_AUTOMATON: usize = 1 << 20;
/// How many sets of triggers are kept for the pairs of bytes that a trigger may have first, and second.
const PAIRS: usize = 1 << 14;
/// Reads that a try counts: triggers are short.
const TRY: usize = 4;

fn ahead_of(data: &[u8], place: usize) -> usize {
    match place.checked_sub(1).map(|at| data[at]) {
        None => 0,
        Some(b'0'..=b'9' | b'A'..=b'Z' | b'_' | b'a'..=b'z') => 1,
        Some(b'\n') => 2,
        Some(b'\r') => 3,
        Some(_) => 4,
    }
}

struct Trigger {
    automaton: Automata,
    /// The state in which a match may begin, by what stands in front of it.
    starts: [StateID; AHEAD.len()],
    /// How many bytes it has at least.
    least: usize,
}

pub struct Triggers {
    triggers: Vec<Trigger>,
    /// Which triggers may begin with a pair of bytes, and which may go on with it, a bit for each; beyond 32 some share
    /// a bit, and bytes of the same kind share a place.
    first: Box<[u32; PAIRS]>,
    second: Box<[u32; PAIRS]>,
    /// Which may begin with a byte where nothing stands in front of it.
    begin: [u32; 256],
    /// Which may have no more than so many bytes.
    short: [u32; 4],
}

/// ASCII is itself, but for the first control characters; the others are what they are in UTF-8.
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            0..=4 => 5,
            ascii @ ..=0x7f => ascii,
            0x80..=0xbf => 1,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0.. => 4,
        };
        byte += 1;
    }
    kinds
};

/// The place of a pair of bytes, from that of the one that ends with the first.
fn pair(before: usize, byte: u8) -> usize {
    (before << 7 | usize::from(KINDS[usize::from(byte)])) % PAIRS
}

impl Triggers {
    /// The error is which trigger is refused, and why.
    pub fn new(triggers: &[String]) -> Result<Self, (usize, String)> {
        let mut result = Self {
            triggers: Vec::new(),
            first: Box::new([0; PAIRS]),
            second: Box::new([0; PAIRS]),
            begin: [0; 256],
            short: [0; 4],
        };
        for (number, trigger) in triggers.iter().enumerate() {
            let trigger = Trigger::new(trigger).map_err(|reason| (number, reason))?;
            let (automaton, bit) = (&trigger.automaton, 1 << (number % 32));
            result.short.iter_mut().skip(trigger.least).for_each(|short| *short |= bit);
            for (byte, begin) in (0..).zip(&mut result.begin) {
                let dead = automaton.is_dead_state(automaton.next_state(trigger.starts[0], byte));
                *begin |= if dead { 0 } else { bit };
            }
            let mut states = trigger.starts[1..].to_vec();
            for pairs in [result.first.as_mut_slice(), result.second.as_mut_slice()] {
                states = add_pairs(automaton, &states, bit, pairs);
            }
            result.triggers.push(trigger);
        }
        Ok(result)
    }

    /// Every place where a trigger starts, with the trigger's number, in order. Tells how much was read.
    pub fn places(&self, data: &[u8], places: &mut Vec<(usize, usize)>) -> usize {
        places.clear();
        let mut tries = 0;
        if let Some((head, rest)) = data.split_first_chunk::<4>() {
            tries += self.add(self.begin[usize::from(head[0])], data, 0, places);
            // The pairs that end at the byte in front of this one, and here.
            let (mut last, mut now) = (pair(pair(0, head[1]), head[2]), pair(pair(0, head[2]), head[3]));
            for (place, &byte) in (1..).zip(rest) {
                let before = last;
                (last, now) = (now, pair(now, byte));
                let may = self.first[before] & self.second[now];
                if may != 0 {
                    tries += self.add(may, data, place, places);
                }
            }
        }
        for left in (1..=data.len().min(3)).rev() {
            tries += self.add(self.short[left], data, data.len() - left, places); // there are not two pairs
        }
        data.len() + TRY * tries
    }

    /// How many triggers were tried.
    fn add(&self, may: u32, data: &[u8], place: usize, places: &mut Vec<(usize, usize)>) -> usize {
        let ahead = ahead_of(data, place);
        for (group, triggers) in self.triggers.chunks(32).enumerate() {
            let mut may = may;
            while may != 0 {
                let bit = may.trailing_zeros() as usize;
                may &= may - 1;
                if triggers.get(bit).is_some_and(|trigger| trigger.begins(ahead, &data[place..])) {
                    places.push((place, 32 * group + bit));
                }
            }
        }
        may.count_ones() as usize * self.triggers.len().div_ceil(32)
    }
}

impl Trigger {
    fn new(trigger: &str) -> Result<Self, String> {
        let parsed = pattern::parsed(trigger)?;
        let Some(least) = parsed.properties().minimum_len().filter(|least| *least > 0) else {
            return Err("it matches the empty text".into());
        };
        if parsed.properties().maximum_len().is_none() {
            return Err("it has no greatest length".into());
        }
        let automaton = pattern::automaton(&parsed, false, Anchored::Yes, MatchKind::All, Some(MOST_AUTOMATON))?;
        let mut starts = [StateID::ZERO; AHEAD.len()];
        for (start, ahead) in starts.iter_mut().zip(AHEAD) {
            *start = pattern::start(&automaton, ahead)?;
        }
        Ok(Self { automaton, starts, least })
    }

    /// Whether a match begins where the data does.
    fn begins(&self, ahead: usize, data: &[u8]) -> bool {
        let (automaton, mut state) = (&self.automaton, self.starts[ahead]);
        for &byte in data {
            state = automaton.next_state(state, byte);
            if automaton.is_special_state(state) {
                if automaton.is_match_state(state) {
                    return true; // it tells so one byte late
                }
                if automaton.is_dead_state(state) {
                    return false;
                }
            }
        }
        automaton.is_match_state(automaton.next_eoi_state(state))
    }
}

/// Sets the bit of all pairs that one of these states goes on with, and gives the states behind them.
fn add_pairs(automaton: &Automata, states: &[StateID], bit: u32, pairs: &mut [u32]) -> Vec<StateID> {
    // A match is told one byte late, and whatever follows it is fine.
    let next = |state, byte| if automaton.is_match_state(state) { state } else { automaton.next_state(state, byte) };
    let mut reached = Vec::new();
    for &state in states {
        for one in 0..=u8::MAX {
            let between = next(state, one);
            if automaton.is_dead_state(between) {
                continue;
            }
            for other in 0..=u8::MAX {
                let behind = next(between, other);
                if !automaton.is_dead_state(behind) {
                    pairs[pair(pair(0, one), other)] |= bit;
                    reached.push(behind);
                }
            }
            reached.sort_unstable();
            reached.dedup();
        }
    }
    reached
}
