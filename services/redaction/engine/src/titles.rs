//! Finds kept titles in a text, each in its brackets: what stands there comes through as it is.

use memchr::{Memchr, memchr_iter};

use crate::replacements::Place;

/// Titles in their brackets, in order.
pub struct Titles {
    titles: Vec<Vec<u8>>,
    /// Of each title the longest other one that it begins with.
    inner: Vec<Option<usize>>,
    longest: usize,
}

impl Titles {
    pub fn new(titles: &[String]) -> Self {
        let mut titles: Vec<Vec<u8>> = titles.iter().map(|title| format!("[{title}]").into_bytes()).collect();
        titles.sort_unstable();
        titles.dedup();
        let mut inner = Vec::with_capacity(titles.len());
        for (at, title) in titles.iter().enumerate() {
            // What it begins with stands before it, and whatever is between begins so, too.
            let mut other = at.checked_sub(1);
            while let Some(place) = other.filter(|&place| !title.starts_with(&titles[place])) {
                other = inner[place];
            }
            inner.push(other);
        }
        let longest = titles.iter().map(Vec::len).max().unwrap_or(0);
        Self { titles, inner, longest }
    }

    pub fn is_empty(&self) -> bool {
        self.titles.is_empty()
    }

    /// Where titles stand in a text: at each bracket the longest.
    pub fn places(&self, text: &[u8]) -> impl Iterator<Item = Place> {
        self.brackets(text).filter_map(|at| Some((at, at + self.longest_at(&text[at..])?)))
    }

    /// At how many places of a text they are looked for.
    pub fn tries(&self, text: &[u8]) -> usize {
        self.brackets(text).count()
    }

    fn brackets<'t>(&self, text: &'t [u8]) -> Memchr<'t> {
        memchr_iter(b'[', if self.is_empty() { b"" } else { text })
    }

    /// How many titles are not greater than a text, and how many bytes the last of them begins with as the text does.
    fn rank(&self, text: &[u8]) -> (usize, usize) {
        // What both ends of a stretch of titles begin with as the text does, all between them begin with.
        let (mut least, mut most) = ((0, 0), (self.titles.len(), 0));
        while least.0 < most.0 {
            let middle = usize::midpoint(least.0, most.0);
            let (title, known) = (&self.titles[middle], least.1.min(most.1));
            let same = known + same(&text[known..], &title[known..]);
            if title.get(same) <= text.get(same) {
                least = (middle + 1, same);
            } else {
                most = (middle, same);
            }
        }
        least
    }

    /// How many bytes the longest title has that a text begins with.
    fn longest_at(&self, text: &[u8]) -> Option<usize> {
        // The last title that is not greater than the text begins with every title that the text begins with.
        let (not_greater, same) = self.rank(text);
        let mut title = not_greater.checked_sub(1)?;
        while self.titles[title].len() > same {
            title = self.inner[title]?;
        }
        Some(self.titles[title].len())
    }

    /// Where in a text the first title begins that its end does not finish, or the text's length.
    pub fn unfinished(&self, text: &[u8]) -> usize {
        let first = (text.len() + 1).saturating_sub(self.longest);
        let begun = |&at: &usize| {
            let next = self.titles.get(self.rank(&text[at..]).0);
            next.is_some_and(|title| title.starts_with(&text[at..]))
        };
        self.brackets(text.get(first..).unwrap_or_default()).map(|at| first + at).find(begun).unwrap_or(text.len())
    }
}

/// How many bytes two texts have in common at their beginnings.
fn same(one: &[u8], other: &[u8]) -> usize {
    const WORD: usize = 16;
    let words = one.chunks_exact(WORD).zip(other.chunks_exact(WORD)).take_while(|(one, other)| one == other).count();
    let rest = one[WORD * words..].iter().zip(&other[WORD * words..]);
    WORD * words + rest.take_while(|(one, other)| one == other).count()
}
