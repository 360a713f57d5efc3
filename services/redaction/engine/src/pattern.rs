//! From RE2's syntax, in which rules are written, to that of the regex library, and the settings of both.

use std::iter::Peekable;
use std::str::Chars;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::Hir;

/// One that says for every state and byte which state is next, so that a byte always takes the same time.
pub type Automata = dense::DFA<Vec<u32>>;

/// Unicode as in RE2: code points, and `(?i)` by Unicode's simple folding.
pub fn syntax() -> syntax::Config {
    syntax::Config::new().unicode(true).utf8(true).nest_limit(200)
}

/// Parsed; the error is the construct that cannot be had, or what the library says.
pub fn parsed(pattern: &str) -> Result<Hir, String> {
    let parsed = syntax::parse_with(&translated(pattern)?, &syntax());
    parsed.map_err(|error| error.to_string())
}

/// Compiled as it is; the errors are those of `parsed`, and what is too large.
pub fn compiled(pattern: &str) -> Result<Regex, String> {
    Regex::builder().build_from_hir(&parsed(pattern)?).map_err(|error| error.to_string())
}

/// The whole automaton of a pattern. The error is what the library says, for instance of one that takes more than `most`
/// bytes.
pub fn automaton(
    pattern: &Hir,
    reverse: bool,
    anchored: Anchored,
    kind: MatchKind,
    most: Option<usize>,
) -> Result<Automata, String> {
    let nfa = thompson::Config::new().reverse(reverse).utf8(false).which_captures(WhichCaptures::None);
    let nfa = thompson::Compiler::new().configure(nfa).build_from_hir(pattern).map_err(|error| error.to_string())?;
    let config = dense::Config::new()
        .match_kind(kind)
        .start_kind(if anchored.is_anchored() { StartKind::Anchored } else { StartKind::Unanchored })
        .accelerate(false) // where there is much to skip to, it takes longer than a step for every byte
        .dfa_size_limit(most)
        .determinize_size_limit(most);
    dense::Builder::new().configure(config).build_from_nfa(&nfa).map_err(|error| error.to_string())
}

/// What may stand in front of a match, as far as a pattern can tell: nothing, a letter or the like, line ends, another.
pub const AHEAD: [Option<u8>; 5] = [None, Some(b'a'), Some(b'\n'), Some(b'\r'), Some(b' ')];

/// The state in which a match begins, by what stands in front of it.
pub fn start(automaton: &Automata, ahead: Option<u8>) -> Result<StateID, String> {
    let config = start::Config::new().anchored(Anchored::Yes).look_behind(ahead);
    automaton.start_state(&config).map_err(|error| error.to_string())
}

const DIGIT: &str = "0-9";
const WORD: &str = "0-9A-Za-z_";
const SPACE: &str = r"\t\n\f\r ";

/// The same pattern in the library's syntax: `\d`, `\s`, `\w` and `\b` are of ASCII in RE2, and some marks that the
/// library knows mean themselves there. The error is the construct that cannot be had.
pub fn translated(pattern: &str) -> Result<String, String> {
    let mut characters = pattern.chars().peekable();
    let mut result = String::with_capacity(2 * pattern.len());
    while let Some(character) = characters.next() {
        match character {
            '\\' => escape(&mut characters, &mut result)?,
            '[' => class(&mut characters, &mut result)?,
            _ => result.push(character),
        }
    }
    Ok(result)
}

fn escape(characters: &mut Peekable<Chars<'_>>, result: &mut String) -> Result<(), String> {
    match characters.next() {
        Some('d') => result.push_str(&format!("[{DIGIT}]")),
        Some('D') => result.push_str(&format!("[^{DIGIT}]")),
        Some('w') => result.push_str(&format!("[{WORD}]")),
        Some('W') => result.push_str(&format!("[^{WORD}]")),
        Some('s') => result.push_str(&format!("[{SPACE}]")),
        Some('S') => result.push_str(&format!("[^{SPACE}]")),
        Some('b') => result.push_str(r"(?-u:\b)"),
        Some('B') => result.push_str(r"(?-u:\B)"),
        Some('Q') => quoted(characters, result),
        other => common_escape(other, result)?,
    }
    Ok(())
}

fn common_escape(escaped: Option<char>, result: &mut String) -> Result<(), String> {
    match escaped {
        Some(mark @ ('<' | '>')) => result.push(mark),
        Some(digit @ '0'..='9') => return Err(format!("\\{digit}")),
        Some('C') => return Err(r"\C".into()),
        Some(other) => result.extend(['\\', other]),
        None => return Err("\\".into()),
    }
    Ok(())
}

fn quoted(characters: &mut Peekable<Chars<'_>>, result: &mut String) {
    let mut literal = String::new();
    for character in characters.by_ref() {
        literal.push(character);
        if literal.ends_with(r"\E") {
            literal.truncate(literal.len() - 2);
            break;
        }
    }
    result.push_str(&regex_syntax::escape(&literal));
}

fn class(characters: &mut Peekable<Chars<'_>>, result: &mut String) -> Result<(), String> {
    result.push('[');
    if characters.next_if_eq(&'^').is_some() {
        result.push('^');
    }
    if characters.next_if_eq(&']').is_some() {
        result.push_str(r"\]");
    }
    while let Some(character) = characters.next() {
        match character {
            ']' => {
                result.push(']');
                return Ok(());
            }
            '[' if characters.peek() == Some(&':') => {
                result.push('[');
                for part in characters.by_ref() {
                    result.push(part);
                    if part == ']' {
                        break;
                    }
                }
            }
            '[' | '&' | '~' => result.extend(['\\', character]),
            '-' if characters.peek() == Some(&']') => result.push_str(r"\-"),
            '\\' => match characters.next() {
                Some('d') => result.push_str(DIGIT),
                Some('w') => result.push_str(WORD),
                Some('s') => result.push_str(SPACE),
                Some('D') => result.push_str(&format!("[^{DIGIT}]")),
                Some('W') => result.push_str(&format!("[^{WORD}]")),
                Some('S') => result.push_str(&format!("[^{SPACE}]")),
                other => common_escape(other, result)?,
            },
            _ => result.push(character),
        }
    }
    Err("[".into())
}
