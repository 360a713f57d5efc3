//! From RE2's syntax, in which rules are written, to that of the regex library, and the settings of both.

use std::iter::Peekable;
use std::str::Chars;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

/// Unicode as in RE2: code points, and `(?i)` by Unicode's simple folding.
pub fn syntax() -> syntax::Config {
    syntax::Config::new().unicode(true).utf8(true).nest_limit(200)
}

/// Compiled as it is; the error is the construct that cannot be had, or what the library says.
pub fn compiled(pattern: &str) -> Result<Regex, String> {
    let built = Regex::builder().syntax(syntax()).build(&translated(pattern)?);
    built.map_err(|error| error.to_string())
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
