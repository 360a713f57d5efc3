//! Finds where rules may have a match: every place where a rule's trigger starts.

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};

use crate::pattern;

/// Bytes of the automaton of one trigger.
const MOST_AUTOMATON: usize = 1 << 20;
/// How many sets of triggers are kept for the pairs of bytes that a trigger may have first, and second.
const PAIRS: usize = 1 << 14;

pub struct Triggers {
    automata: Vec<dense::DFA<Vec<u32>>>,
    /// Which triggers may begin with a pair of bytes, and which may go on with it, a bit for each; beyond 32 some share
    /// a bit, and all that is not ASCII shares a place.
    first: Box<[u32; PAIRS]>,
    second: Box<[u32; PAIRS]>,
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
        let mut result = Self { automata: Vec::new(), first: Box::new([0; PAIRS]), second: Box::new([0; PAIRS]) };
        for (number, trigger) in triggers.iter().enumerate() {
            let automaton = compiled(trigger).map_err(|reason| (number, reason))?;
            let bit = 1 << (number % 32);
            let mut states = starts(&automaton);
            for pairs in [result.first.as_mut_slice(), result.second.as_mut_slice()] {
                states = add_pairs(&automaton, &states, bit, pairs);
            }
            result.automata.push(automaton);
        }
        Ok(result)
    }

    /// Every place where a trigger starts, with the trigger's number, in order.
    pub fn places(&self, data: &[u8], places: &mut Vec<(usize, usize)>) {
        places.clear();
        let (mut last, mut now) = (0, 0); // the pairs that end at the byte in front, and here
        for (end, &byte) in data.iter().enumerate() {
            let before = last;
            (last, now) = (now, pair(now, byte));
            let may = self.first[before] & self.second[now];
            if may != 0 && end > 3 {
                self.add(may, data, end - 3, places);
            } else if end == 3 {
                self.add(u32::MAX, data, 0, places); // nothing stands in front of it
            }
        }
        for place in data.len().max(3) - 3..data.len() {
            self.add(u32::MAX, data, place, places); // there are not two pairs
        }
    }

    fn add(&self, may: u32, data: &[u8], place: usize, places: &mut Vec<(usize, usize)>) {
        let start = start::Config::new().anchored(Anchored::Yes).look_behind(place.checked_sub(1).map(|at| data[at]));
        for (group, automata) in self.automata.chunks(32).enumerate() {
            let mut may = may;
            while may != 0 {
                let bit = may.trailing_zeros() as usize;
                may &= may - 1;
                if automata.get(bit).is_some_and(|automaton| begins(automaton, &start, &data[place..])) {
                    places.push((place, 32 * group + bit));
                }
            }
        }
    }
}

/// Whether a match begins where the data does.
fn begins(automaton: &dense::DFA<Vec<u32>>, start: &start::Config, data: &[u8]) -> bool {
    // Nothing that makes an automaton give up is asked for.
    let Ok(mut state) = automaton.start_state(start) else { return false };
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

fn compiled(trigger: &str) -> Result<dense::DFA<Vec<u32>>, String> {
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(StartKind::Anchored)
        .dfa_size_limit(Some(MOST_AUTOMATON))
        .determinize_size_limit(Some(MOST_AUTOMATON));
    let translated = pattern::translated(trigger)?;
    let syntax = pattern::syntax();
    let parsed = regex_automata::util::syntax::parse_with(&translated, &syntax).map_err(|error| error.to_string())?;
    match (parsed.properties().minimum_len(), parsed.properties().maximum_len()) {
        (Some(0) | None, _) => Err("it matches the empty text".into()),
        (_, None) => Err("it has no greatest length".into()),
        _ => {
            let automaton = dense::Builder::new().configure(config).syntax(syntax).build(&translated);
            automaton.map_err(|error| error.to_string())
        }
    }
}

/// The states in which a match may begin behind another byte, whatever that is.
fn starts(automaton: &dense::DFA<Vec<u32>>) -> Vec<StateID> {
    let ahead = [b'a', b' ', b'\n', b'\r']; // of each kind that a pattern can tell
    let starts = ahead.iter().map(|byte| start::Config::new().anchored(Anchored::Yes).look_behind(Some(*byte)));
    starts.filter_map(|start| automaton.start_state(&start).ok()).collect()
}

/// Sets the bit of all pairs that one of these states goes on with, and gives the states behind them.
fn add_pairs(automaton: &dense::DFA<Vec<u32>>, states: &[StateID], bit: u32, pairs: &mut [u32]) -> Vec<StateID> {
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
