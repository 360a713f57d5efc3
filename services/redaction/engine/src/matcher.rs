//! Finds what rules with a trigger describe: one pass for the triggers, then an exact look at each place.

use std::sync::Mutex;

use memchr::{memchr, memrchr};
use regex_automata::meta::{Cache, Regex};
use regex_automata::{Anchored, Input};

use crate::group::Group;
use crate::meter::STEP;
use crate::pattern;
use crate::replacements::Place;
use crate::triggers::Triggers;
use crate::validators::Check;

/// Bytes: what says what a finding is, `secret key:`, is shorter.
const INTRODUCTION: usize = 64;
/// So many long matches of a rule in a row may be refused that overlap; the next one is a finding. Else a text could make
/// every byte be read again for every trigger in front of it: `password=${password=${` and so on.
const MOST_REFUSED: usize = 8;
/// Bytes: numbers and names are shorter, so that what is like one stays as it is, whatever stands beside it.
const LONG: usize = 128;
/// Bytes beside a match that a rule may look at, with some to spare.
const BESIDE: usize = 16;
/// Bytes of the automaton that one rule builds while it searches.
const LAZY_AUTOMATON: usize = 1 << 20;

/// Where a rule's match stands, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    pub start: usize,
    pub rule: u32,
    pub end: usize,
}

/// A rule as it is searched: what its first group holds is the finding, or all of it if there is none.
pub struct Rule {
    pub number: u32,
    regex: Regex,
    group: Option<Group>,
    check: Option<Check>,
    /// A match begins at most so many bytes before its trigger.
    reach: usize,
    /// No blank is inside of a match.
    solid: bool,
    /// How many bytes a match has at most, with what stands beside it, and one more; 0 if that is much.
    window: usize,
}

impl Rule {
    /// The error is what the library says of the pattern.
    pub fn new(
        number: u32,
        pattern: &str,
        check: Option<Check>,
        reach: usize,
        solid: bool,
        window: usize,
    ) -> Result<Self, String> {
        let config = Regex::config().hybrid_cache_capacity(LAZY_AUTOMATON).nfa_size_limit(Some(LAZY_AUTOMATON));
        let parsed = pattern::parsed(pattern)?;
        let regex = Regex::builder().configure(config).build_from_hir(&parsed).map_err(|error| error.to_string())?;
        Ok(Self { number, regex, group: Group::new(&parsed), check, reach, solid, window })
    }

    /// Whether one of these places is where a look from here may read.
    fn near(&self, place: usize, seams: Seams<'_>) -> bool {
        let seams = seams.places;
        let first = seams.partition_point(|&seam| seam + self.reach + BESIDE < place);
        seams.get(first).is_some_and(|&seam| seam <= place + 2 * self.window + BESIDE)
    }

    /// Where the finding stands in a match; None if it has no part in it. `stops` is room for places.
    fn finding(&self, data: &[u8], look: Look, stops: &mut [Vec<usize>; 2]) -> Option<(usize, usize)> {
        match &self.group {
            Some(group) => group.find(data, look.start, look.end, stops),
            None => Some((look.start, look.end)),
        }
    }
}

/// Where a match stands.
#[derive(Clone, Copy)]
struct Look {
    start: usize,
    end: usize,
}

/// What one search needs for itself.
struct Scratch {
    places: Vec<(usize, usize)>,
    stops: [Vec<usize>; 2],
    caches: Vec<Cache>,
    states: Vec<State>,
}

/// What is known of a rule in the middle of a search.
#[derive(Clone, Copy, Default)]
struct State {
    /// Where its last match ends.
    end: usize,
    /// No match begins before.
    clear: usize,
    /// The match that begins next, or began last, and whether the validation refuses it.
    ahead: Option<Look>,
    ahead_refused: bool,
    /// How many matches in a row were refused that overlap, and up to where they reach.
    refused: usize,
    refused_up_to: usize,
    /// Where the next blank stands, the end of the text if there is none: known for places up to there.
    blank: usize,
}

/// What is known of a text out of which something was left that nobody sees.
#[derive(Clone, Copy)]
pub struct Seams<'s> {
    /// Where something was left out, in order.
    pub places: &'s [usize],
    /// What was found when nothing was left out, in order.
    pub known: &'s [Place],
}

impl Seams<'_> {
    /// Whether all of this was found when nothing was left out.
    pub fn covers(&self, start: usize, end: usize) -> bool {
        let next = self.known.partition_point(|&(_, known)| known <= start);
        self.known.get(next).is_some_and(|known| known.0 <= start && end <= known.1)
    }

    /// Whether what stands around this place was found when nothing was left out, or was hidden by what is known: the place
    /// is in that, and nothing was left out of what stands around it.
    fn knows(&self, place: usize, start: usize, end: usize) -> bool {
        let seam = self.places.partition_point(|&seam| seam <= start);
        self.covers(place, place + 1) && self.places.get(seam).is_none_or(|&seam| seam >= end)
    }
}

/// The compiled rules; safe to use from several threads.
pub struct Matcher {
    rules: Vec<Rule>,
    triggers: Triggers,
    idle: Mutex<Vec<Scratch>>,
}

impl Matcher {
    pub fn new(rules: Vec<Rule>, triggers: Triggers) -> Self {
        Self { rules, triggers, idle: Mutex::default() }
    }

    /// All matches in valid UTF-8; those of one rule are disjoint. With `seams`, those of rules whose matches are short are
    /// only told where one of these is near. Tells how much was read.
    pub fn matches(&self, data: &[u8], seams: Option<Seams<'_>>, found: &mut Vec<Match>) -> usize {
        let idle = self.idle.lock().map_or(None, |mut idle| idle.pop());
        let mut scratch = idle.unwrap_or_else(|| Scratch {
            places: Vec::new(),
            stops: Default::default(),
            caches: self.rules.iter().map(|rule| rule.regex.create_cache()).collect(),
            states: Vec::new(),
        });
        let mut read = self.triggers.places(data, &mut scratch.places);
        if !scratch.places.is_empty() {
            self.look(data, seams, &mut scratch, found, &mut read);
        }
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(scratch);
        }
        read
    }

    fn look(
        &self,
        data: &[u8],
        seams: Option<Seams<'_>>,
        scratch: &mut Scratch,
        found: &mut Vec<Match>,
        read: &mut usize,
    ) {
        let Scratch { places, stops, caches, states } = scratch;
        states.clear();
        states.resize(self.rules.len(), State::default());
        let (mut first, mut known, mut by) = (0, 0, 0); // what reaches furthest of all that is found: start, end, rule
        for &(place, at) in places.iter() {
            let (rule, state, cache) = (&self.rules[at], &mut states[at], &mut caches[at]);
            if rule.window > 0 && seams.is_some_and(|seams| !rule.near(place, seams)) {
                continue;
            }
            let finding = if rule.reach > 0 {
                // What is found already hides its middle: the host of an address is found with the address.
                if (first <= place && place < known && by <= at) || place < state.clear {
                    continue;
                }
                let begin = state.end.max(place.saturating_sub(rule.reach));
                let mut look = state.ahead.filter(|ahead| ahead.start >= begin && ahead.end > place);
                if look.is_some() && state.ahead_refused {
                    continue;
                }
                if look.is_none() {
                    if rule.solid && state.blank <= place {
                        state.blank = memchr(b' ', &data[place..]).map_or(data.len(), |blank| place + blank);
                    }
                    (look, state.clear) = around(rule, cache, data, begin, place, state.blank, read);
                    (state.ahead, state.ahead_refused) = (look, false);
                    if look.is_some_and(|look| look.start > place) {
                        continue;
                    }
                }
                look.and_then(|look| rule.finding(data, look, stops))
            } else if place >= known || place >= state.end {
                here(rule, cache, data, place, stops, read)
            } else {
                // A place in the rule's last match stands for what is left behind it, so that no stretch is read again
                // and again. What introduces a finding may stand in the last one, as may its first character.
                let near = place + INTRODUCTION >= state.end;
                let finding = if near { here(rule, cache, data, place, stops, read) } else { None };
                finding
                    .filter(|&(start, _)| start >= state.end)
                    .or_else(|| here(rule, cache, data, state.end, stops, read))
            };
            let Some((start, mut end)) = finding else { continue };
            *read += STEP + 4 * (end - start);
            if let Some(check) = rule.check {
                let found = check(&data[start..end]);
                if found == 0 && end - start >= LONG {
                    state.refused = if start < state.refused_up_to { state.refused + 1 } else { 1 };
                    state.refused_up_to = state.refused_up_to.max(end);
                }
                if found > 0 || end - start < LONG || state.refused <= MOST_REFUSED {
                    end = start + found;
                }
            }
            if start < end {
                state.refused = 0;
                state.end = end;
                if end > known {
                    (first, known, by) = (start, end, at);
                }
                if rule.reach == 0 || seams.is_none_or(|seams| !seams.knows(place, start, end)) {
                    found.push(Match { start, rule: rule.number, end });
                }
            } else {
                state.ahead_refused = true;
            }
        }
    }
}

fn search(rule: &Rule, cache: &mut Cache, input: &Input<'_>, read: &mut usize) -> Option<Look> {
    let found = rule.regex.search_with(cache, input);
    // Without a match, one that begins here is soon ruled out; one that may begin anywhere, at the end.
    let none = if input.get_anchored().is_anchored() { input.start() } else { input.end() };
    *read += STEP + found.as_ref().map_or(none, |found| found.end()) - input.start();
    let found = found?;
    Some(Look { start: found.start(), end: found.end() })
}

fn here(
    rule: &Rule,
    cache: &mut Cache,
    data: &[u8],
    place: usize,
    stops: &mut [Vec<usize>; 2],
    read: &mut usize,
) -> Option<(usize, usize)> {
    let look = search(rule, cache, &Input::new(data).range(place..).anchored(Anchored::Yes), read)?;
    rule.finding(data, look, stops)
}

/// The match around a place that begins at `first` or behind it, and up to where none begins that is not told here.
///
/// Where nothing stands around the place: the next match behind it, if this look reaches far enough to tell its end.
fn around(
    rule: &Rule,
    cache: &mut Cache,
    data: &[u8],
    first: usize,
    place: usize,
    blank: usize,
    read: &mut usize,
) -> (Option<Look>, usize) {
    let (mut first, mut limit, window) = (first, data.len(), rule.window);
    if window > 0 {
        limit = limit.min(place + 2 * window);
    }
    let mut whole = limit == data.len();
    if rule.solid {
        first += data.get(first..place).and_then(|ahead| memrchr(b' ', ahead)).unwrap_or(0);
        if blank < limit {
            (limit, whole) = (blank + 1, true);
        }
    }
    loop {
        // The last match of the rule may end behind all that is looked at here.
        let look = if first < limit { search(rule, cache, &Input::new(data).range(first..limit), read) } else { None };
        let Some(look) = look else {
            return (None, if whole { limit - 1 } else { limit - window }); // nothing that would end before the limit
        };
        if look.start > place {
            return (Some(look).filter(|_| whole || look.start + window <= limit), look.start);
        }
        if look.end > place {
            return (Some(look), 0);
        }
        // The last character of a match may open the next one.
        let last = data[..look.end].iter().rposition(|byte| byte & 0xc0 != 0x80).unwrap_or(0);
        first = last.max(first + 1);
    }
}
