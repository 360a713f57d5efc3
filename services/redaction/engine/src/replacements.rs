//! What stands in the place of a finding, by strategy, and how it is known again.

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use memchr::memmem;
use regex_automata::meta::Regex;
use sha2::Sha256;

use crate::pattern;
use crate::text;
use crate::titles::Titles;

/// Hexadecimal ones of a pseudonym.
pub const PSEUDONYM_DIGITS: usize = 8;

/// The start and the end of a place, in bytes.
pub type Place = (usize, usize);

/// How the values of one rule are replaced.
pub enum Replacement {
    /// The same for every value.
    Fixed(String),
    /// Two characters of both ends, or of an address's name and domain; of short ones fewer.
    Partial,
    /// A name that the same value of that type always gets with the same key.
    Pseudonym(String, Box<Hmac<Sha256>>),
}

impl Replacement {
    pub fn pseudonym(kind: String, key: &[u8]) -> Self {
        let mac = Hmac::new_from_slice(key).expect("a key of any length will do");
        Self::Pseudonym(kind, Box::new(mac))
    }

    /// What stands in the place of a value; borrowed if it is the same for every value.
    fn of(&self, value: &str) -> Cow<'_, str> {
        match self {
            Self::Fixed(fixed) => Cow::Borrowed(fixed),
            Self::Partial => Cow::Owned(partial(value)),
            Self::Pseudonym(kind, mac) => {
                let mut mac = mac.clone();
                mac.update(kind.as_bytes());
                mac.update(b"\0");
                if value.is_ascii() {
                    mac.update(value.as_bytes());
                } else {
                    mac.update(text::visible(value).as_bytes());
                }
                let digits = mac.finalize().into_bytes();
                let digits = u32::from_be_bytes([digits[0], digits[1], digits[2], digits[3]]);
                Cow::Owned(format!("[{kind}_{digits:0PSEUDONYM_DIGITS$x}]"))
            }
        }
    }
}

fn partial(value: &str) -> String {
    let length = |part: &str| part.chars().count();
    if let Some((name, domain)) = value.rsplit_once('@') {
        let (name_shown, domain_shown) =
            (shown(name.chars(), length(name) / 2), shown(domain.chars(), length(domain) / 2));
        return format!("{name_shown}***@{domain_shown}***");
    }
    let most = length(value) / 4;
    let end: String = shown(value.chars().rev(), most).chars().rev().collect();
    format!("{}***{end}", shown(value.chars(), most))
}

/// Letters and digits only, and none that a mark may belong to.
fn shown(mut characters: impl Iterator<Item = char>, most: usize) -> String {
    let mut result = String::new();
    loop {
        match characters.next() {
            Some(character) if !character.is_ascii() => {
                return String::new(); // what it goes with may be the last one shown
            }
            Some(character) if result.len() < most.min(2) && character.is_ascii_alphanumeric() => {
                result.push(character)
            }
            _ => return result,
        }
    }
}

/// The replacements by one choice of strategies.
pub struct Replacements {
    of_rules: Vec<Replacement>,
    known: Regex,
    marks: Vec<memmem::Finder<'static>>,
    /// Whether one may become one with what stands beside it; what is in brackets does not.
    pub joining: bool,
}

impl Replacements {
    /// `known` matches every replacement that may stand in a text, and none is there without one of the marks.
    pub fn new(of_rules: Vec<Replacement>, known: &str, marks: &[String], joining: bool) -> Result<Self, String> {
        let known = pattern::compiled(known)?;
        let marks = marks.iter().map(|mark| memmem::Finder::new(mark.as_bytes()).into_owned()).collect();
        Ok(Self { of_rules, known, marks, joining })
    }

    /// What stands in the place of a value that this rule found; borrowed if it is the same for every value.
    pub fn of(&self, rule: u32, value: &str) -> Cow<'_, str> {
        self.of_rules[rule as usize].of(value)
    }

    /// Where replacements and titles stand, as disjoint places in order.
    pub fn walls(&self, text: &str, titles: &Titles) -> Vec<Place> {
        let mut walls: Vec<Place> = titles.places(text.as_bytes()).collect();
        if self.marks.iter().any(|mark| mark.find(text.as_bytes()).is_some()) {
            walls.extend(self.known.find_iter(text).map(|found| (found.start(), found.end())));
        }
        if !titles.is_empty() {
            walls.sort_unstable();
            walls.dedup_by(|next, last| {
                let overlap = next.0 < last.1;
                if overlap {
                    last.1 = last.1.max(next.1);
                }
                overlap
            });
        }
        walls
    }
}
