//! What happens to a text before the search: look-alike characters, and what nobody sees; and which characters are one.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// Unicode's marks (categories M), of the version that the regex library has.
static MARKS: LazyLock<Vec<(char, char)>> = LazyLock::new(|| {
    let Ok(hir) = regex_syntax::parse(r"\p{M}") else { unreachable!("a class of Unicode") };
    let HirKind::Class(Class::Unicode(class)) = hir.kind() else { unreachable!("a class of Unicode") };
    class.iter().map(|range| (range.start(), range.end())).collect()
});

/// What nobody sees, Unicode's default ignorable code points as far as texts hold them: soft hyphen, zero-width space
/// and joiners, marks of direction, fillers, variation selectors, tags. PDFs are full of them.
pub fn is_unseen(character: char) -> bool {
    match character {
        '\0'..='\u{34e}' => character == '\u{ad}',
        '\u{350}'..='\u{1fff}' => matches!(
            character,
            '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        ),
        '\u{34f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}' => true,
        _ => false,
    }
}

fn in_ranges(ranges: &[(char, char)], character: char) -> bool {
    let at = ranges.partition_point(|&(first, _)| first <= character);
    at > 0 && character <= ranges[at - 1].1
}

/// The ASCII character that a look-alike stands for: the spaces and hyphens that typesetting puts into numbers (no-break,
/// figure, thin and narrow space; hyphens, en dash, minus), digits and letters of full width, and the marks of full
/// width that numbers and addresses need.
fn folded(character: char) -> Option<char> {
    match character {
        '\u{a0}' | '\u{2007}' | '\u{2009}' | '\u{202f}' | '\u{3000}' => Some(' '),
        '\u{2010}'..='\u{2013}' | '\u{2212}' => Some('-'),
        '\u{ff01}'..='\u{ff5e}' => {
            let plain = char::from((character as u32 - 0xfee0) as u8);
            (plain.is_ascii_alphanumeric() || "()+-.@_".contains(plain)).then_some(plain)
        }
        _ => None,
    }
}

/// A text as it is searched, code point by code point.
pub struct Prepared<'a> {
    pub searched: Cow<'a, str>,
    /// Behind each look-alike: the place, and by how many bytes what follows stands further behind in the text.
    pub folds: Vec<(usize, usize)>,
    /// Whether nobody sees something in it.
    pub unseen: bool,
}

pub fn prepared(text: &str) -> Prepared<'_> {
    let mut searched = String::new();
    let (mut folds, mut unseen) = (Vec::new(), false);
    let (mut done, mut at, mut moved) = (0, 0, 0);
    loop {
        at += ascii_length(&text.as_bytes()[at..]);
        let Some(&first) = text.as_bytes().get(at) else { break };
        // With these bytes begins all that is folded, or that nobody sees.
        if !matches!(first, 0xc2 | 0xcd | 0xd8 | 0xe1..=0xe3 | 0xef | 0xf3) {
            at += match first {
                ..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0.. => 4,
            };
            continue;
        }
        let Some(character) = text[at..].chars().next() else { break };
        if let Some(plain) = folded(character) {
            searched.push_str(&text[done..at]);
            searched.push(plain);
            moved += character.len_utf8() - 1;
            folds.push((searched.len(), moved));
            done = at + character.len_utf8();
        } else {
            unseen = unseen || is_unseen(character);
        }
        at += character.len_utf8();
    }
    if folds.is_empty() {
        return Prepared { searched: Cow::Borrowed(text), folds, unseen };
    }
    searched.push_str(&text[done..]);
    Prepared { searched: Cow::Owned(searched), folds, unseen }
}

/// How many bytes of ASCII a text begins with, eight at a time.
fn ascii_length(data: &[u8]) -> usize {
    let (words, rest) = data.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let others = u64::from_le_bytes(*word) & 0x8080_8080_8080_8080;
        if others != 0 {
            return 8 * at + others.trailing_zeros() as usize / 8;
        }
    }
    8 * words.len() + rest.iter().take_while(|byte| byte.is_ascii()).count()
}

/// How many code points a text has.
pub fn length(text: &str) -> usize {
    text.bytes().filter(|byte| byte & 0xc0 != 0x80).count()
}

/// The text folded, and without what nobody sees.
pub fn visible(text: &str) -> String {
    prepared(text).searched.chars().filter(|&character| !is_unseen(character)).collect()
}

/// Where in a text, in code points, the character stands that is number `at` of what a reader sees.
pub fn place_of_seen(text: &str, at: usize) -> usize {
    let mut seen = text.chars().enumerate().filter(|&(_, character)| !is_unseen(character)).map(|(place, _)| place);
    seen.nth(at).unwrap_or_else(|| text.chars().count())
}

/// Whether this character belongs to the one before it, whatever that is: a mark, or what is none and goes with it all
/// the same: joiners, vowels and final consonants of Hangul, skin tones, tags (UAX 29, Grapheme_Cluster_Break).
pub fn continues(character: char) -> bool {
    match character {
        '\0'..='\x7f' => false,
        '\u{200c}' | '\u{200d}' | '\u{1160}'..='\u{11ff}' | '\u{d7b0}'..='\u{d7ff}' => true,
        '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}' => true,
        _ => in_ranges(&MARKS, character),
    }
}

/// Whether two neighbours may be one for a reader. Of flags any two may, and nothing goes with white space.
pub fn together(one: char, other: char) -> bool {
    const JOINER: char = '\u{200d}';
    let flag = |character| ('\u{1f1e6}'..='\u{1f1ff}').contains(&character);
    let blank = one.is_whitespace() || ('\x1c'..='\x1f').contains(&one);
    (continues(other) && !blank) || one == JOINER || (flag(one) && flag(other))
}
