//! Looks at a piece of text again and again, until nothing is found in what is left beside the replacements.
//!
//! Replacements and kept titles are walls: they come through as they are, and what stands on either side is searched as
//! if the text ended there. What a finding stood beside is looked at again without it: a number that a word touched is
//! free once the word is gone. So nothing is left for a second redaction to find.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::matcher::{Match, Matcher, Seams};
use crate::meter::{FINDING, Meter, STEP, TooMuch};
use crate::plain::{Pass, Plain};
use crate::replacements::{Place, Replacements};
use crate::text;
use crate::titles::Titles;

/// Where a finding stands, in bytes, and the number of its rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Span {
    start: usize,
    end: usize,
    rule: u32,
}

/// A place that is replaced: offsets in the text, in code points.
pub struct Finding<'a> {
    pub start: usize,
    pub end: usize,
    pub rule: u32,
    /// Borrowed if it is the same for every value of its rule.
    pub replacement: Cow<'a, str>,
}

/// A text with its findings replaced, and these in order.
pub struct Redacted<'a> {
    pub text: String,
    pub findings: Vec<Finding<'a>>,
}

/// How texts are redacted.
pub struct Looks<'a> {
    pub matcher: &'a Matcher,
    pub replacements: &'a Replacements,
    /// They come through as they are.
    pub titles: &'a Titles,
    /// What rules without a trigger find.
    pub plain: Plain<'a>,
    /// What is done.
    pub meter: Meter,
    /// How many characters the shortest finding has.
    pub least: usize,
}

/// What may be the end of something beside a finding, or may not stand beside it depending on what comes next. No rule
/// with a trigger minds whether any other character stands beside its finding, or nothing at all. So what stands between
/// two of those was searched when the text around it was.
fn touchy(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.:-+/=@%'".contains(&byte)
}

/// Whether what stands behind a finding may be found when it is gone.
fn touches(behind: &[u8]) -> bool {
    match behind {
        [b'.' | b':' | b'-', next, ..] => touchy(*next),
        [b'.' | b':' | b'-'] | [] => false,
        [byte, ..] => touchy(*byte),
    }
}

impl<'a> Looks<'a> {
    /// The text redacted; `before` stands in front of it.
    ///
    /// Rules that free one finding after the other would take quadratic time: they are stopped by the meter.
    pub fn redact(&self, text: &str, before: &str) -> Result<Redacted<'a>, TooMuch> {
        let piece = Piece::new(self, text, before);
        if self.plain.any() {
            let text = [before, &piece.searched].concat();
            let shown = if piece.unseen { text::visible(&text) } else { String::new() };
            self.plain.choose(&[text.as_bytes(), shown.as_bytes()], &self.meter);
        }
        let walls = piece.searched_places(&self.walls(text));
        let mut spans = piece.within(&between(&walls, piece.searched.len()), Pass::First)?;
        let mut fresh = spans.clone();
        loop {
            self.meter.read(piece.searched.len() + FINDING * fresh.len() + STEP * spans.len());
            self.meter.check()?;
            let beside = piece.beside(&fresh, &spans, &walls);
            fresh = piece.within(&beside, Pass::Beside)?;
            if fresh.is_empty() {
                let replaced = piece.replaced(&spans);
                if !spans.is_empty() && (self.replacements.joining || !self.titles.is_empty()) {
                    fresh = self.joined(&piece, &replaced, &spans, &walls)?;
                }
                if fresh.is_empty() {
                    return Ok(replaced);
                }
            }
            spans.extend(&fresh);
            spans.sort_unstable();
            let all = spans.len();
            spans.dedup_by(|next, last| {
                let overlaps = next.start < last.end;
                if overlaps {
                    last.end = last.end.max(next.end);
                }
                overlaps
            });
            if spans.len() < all {
                fresh = spans.clone(); // a replacement became part of another finding: what stood beside it may be free
            }
        }
    }

    fn walls(&self, text: &str) -> Vec<Place> {
        let walls = self.replacements.walls(text, self.titles);
        self.meter.read(STEP * (walls.len() + 2 * self.titles.tries(text.as_bytes())));
        walls
    }

    /// What is found beside replacements and titles that became one with what stood beside them.
    fn joined(
        &self,
        piece: &Piece<'_, '_>,
        replaced: &Redacted<'_>,
        spans: &[Span],
        walls: &[Place],
    ) -> Result<Vec<Span>, TooMuch> {
        let current = replaced.text.as_str();
        let mut taken: Vec<Place> =
            spans.iter().map(|span| (span.start, span.end)).chain(walls.iter().copied()).collect();
        taken.sort_unstable();
        let before = between(&taken, piece.searched.len());
        let after = between(&self.walls(current), current.len());
        let kept = before.iter().map(|&(start, end)| &piece.text[piece.in_text(start)..piece.in_text(end)]);
        if kept.eq(after.iter().map(|&(start, end)| &current[start..end])) {
            return Ok(Vec::new());
        }
        // Where each replacement stands in the text that has them, and what stood in its place.
        let mut moved: Vec<(Place, Place)> = Vec::with_capacity(spans.len());
        for (span, finding) in spans.iter().zip(&replaced.findings) {
            let (start, end) = (piece.in_text(span.start), piece.in_text(span.end));
            let &((_, now), (_, then)) = moved.last().unwrap_or(&((0, 0), (0, 0)));
            let now = now + start - then;
            moved.push(((now, now + finding.replacement.len()), (start, end)));
        }
        let now = Piece::new(self, current, piece.before);
        let found = now.within(&now.searched_places(&after), Pass::Joined)?;
        // A part of a replacement stands for all of what stood in its place.
        let then = |at: usize, is_end: bool| {
            let at = now.in_text(at);
            let ahead = moved.partition_point(|&((_, end), _)| end < at || end == at && !is_end);
            match moved.get(ahead) {
                Some(&((now, _), (_, end))) if is_end && now < at => end,
                Some(&((now, _), (start, _))) if !is_end && now <= at => start,
                _ => {
                    let &((_, now), (_, end)) = moved[..ahead].last().unwrap_or(&((0, 0), (0, 0)));
                    at - now + end
                }
            }
        };
        let place = |at, is_end| piece.in_searched(then(at, is_end));
        let as_before =
            |span: &Span| Span { start: place(span.start, false), end: place(span.end, true), rule: span.rule };
        Ok(found.iter().map(as_before).collect())
    }
}

/// What is left of a text when places, disjoint and in order, are taken out of it.
fn between(taken: &[Place], length: usize) -> Vec<Place> {
    let mut places = Vec::with_capacity(taken.len() + 1);
    let mut done = 0;
    for &(start, end) in taken {
        if start > done {
            places.push((done, start));
        }
        done = done.max(end);
    }
    if length > done {
        places.push((done, length));
    }
    places
}

/// A piece of text as it is searched; all places in it are bytes of that.
struct Piece<'p, 'a> {
    looks: &'p Looks<'a>,
    text: &'p str,
    searched: Cow<'p, str>,
    /// Behind each look-alike: the place, and by how much what follows stands further behind in the text.
    folds: Vec<(usize, usize)>,
    /// What stands in front of it.
    before: &'p str,
    ascii: bool,
    unseen: bool,
}

impl<'p, 'a> Piece<'p, 'a> {
    fn new(looks: &'p Looks<'a>, text: &'p str, before: &'p str) -> Self {
        let text::Prepared { searched, folds, unseen } = text::prepared(text);
        Self { looks, text, searched, folds, before, ascii: text.is_ascii(), unseen }
    }

    /// The place in the text of a place in what is searched.
    fn in_text(&self, at: usize) -> usize {
        let folds = self.folds.partition_point(|&(place, _)| place <= at);
        at + if folds > 0 { self.folds[folds - 1].1 } else { 0 }
    }

    /// The place in what is searched of a place in the text.
    fn in_searched(&self, at: usize) -> usize {
        let folds = self.folds.partition_point(|&(place, moved)| place + moved <= at);
        at - if folds > 0 { self.folds[folds - 1].1 } else { 0 }
    }

    fn searched_places(&self, places: &[Place]) -> Vec<Place> {
        places.iter().map(|&(start, end)| (self.in_searched(start), self.in_searched(end))).collect()
    }

    /// The stretches beside fresh findings in which something may be found now that these are gone.
    fn beside(&self, fresh: &[Span], spans: &[Span], walls: &[Place]) -> Vec<Place> {
        let everywhere = self.looks.plain.any();
        let all = fresh.len() == spans.len();
        let new: HashSet<&Span> = if all { HashSet::new() } else { fresh.iter().collect() };
        let mut taken: Vec<(usize, usize, bool)> = walls.iter().map(|&(start, end)| (start, end, false)).collect();
        taken.extend(spans.iter().map(|span| (span.start, span.end, all || new.contains(span))));
        if !walls.is_empty() {
            taken.sort_unstable();
        }
        let data = self.searched.as_bytes();
        let mut places = Vec::new();
        let (mut done, mut look) = (0, false);
        for (start, end, is_new) in taken {
            if start > done && (look || (is_new && (everywhere || self.touched_ahead(done, start)))) {
                places.push((done, start));
            }
            done = done.max(end);
            look = is_new && (everywhere || self.touched_behind(end));
        }
        if look && done < data.len() {
            places.push((done, data.len()));
        }
        places
    }

    /// Whether what stands in front of a finding, from `done` on, may be found when it is gone; as it is, or as it is seen.
    fn touched_ahead(&self, done: usize, start: usize) -> bool {
        let ahead = &self.searched[done..start];
        let seen = || ahead.chars().rev().find(|&character| !text::is_unseen(character));
        ahead.bytes().next_back().is_some_and(touchy)
            || self.unseen && seen().is_some_and(|last| last.is_ascii() && touchy(last as u8))
    }

    /// The same of what stands behind it.
    fn touched_behind(&self, end: usize) -> bool {
        let behind = &self.searched[end..];
        let seen = || behind.chars().filter(|&character| !text::is_unseen(character)).take(2).collect::<String>();
        touches(behind.as_bytes()) || self.unseen && touches(seen().as_bytes())
    }

    /// What is found in each of these stretches, as if the text began and ended there.
    fn within(&self, places: &[Place], pass: Pass) -> Result<Vec<Span>, TooMuch> {
        let mut found = Vec::new();
        for &(start, end) in places {
            let before = if start == 0 { self.before } else { "" };
            if end - start < self.looks.least && before.is_empty() {
                continue;
            }
            let stretch = &self.searched[start..end];
            let matches = self.search(stretch.as_bytes(), before, None, pass)?;
            let spans =
                matches.iter().map(|one| Span { start: start + one.start, end: start + one.end, rule: one.rule });
            if self.ascii {
                found.extend(spans);
                continue;
            }
            let mut spans: Vec<Span> = spans.collect();
            if self.unseen && stretch.contains(text::is_unseen) {
                self.add_seen(stretch, start, before, pass, &mut spans)?;
            }
            found.append(&mut self.undivided(&spans, start, end));
        }
        Ok(found)
    }

    /// What nobody sees may hide what it stands in, or part words where no spaces are written.
    fn add_seen(
        &self,
        stretch: &str,
        start: usize,
        before: &str,
        pass: Pass,
        spans: &mut Vec<Span>,
    ) -> Result<(), TooMuch> {
        let mut shown = String::with_capacity(stretch.len());
        let mut places = Vec::with_capacity(stretch.len()); // of each byte that is shown: its place in the piece
        let mut seams = Vec::new(); // before which of them something was that nobody sees
        for (at, character) in stretch.char_indices() {
            if text::is_unseen(character) {
                seams.push(before.len() + shown.len());
            } else {
                places.extend(start + at..start + at + character.len_utf8());
                shown.push(character);
            }
        }
        let shown_at = |at: usize| before.len() + places.partition_point(|&place| place < at);
        let known: Vec<Place> = spans.iter().map(|span| (shown_at(span.start), shown_at(span.end))).collect();
        let seams = Seams { places: &seams, known: &known };
        for one in self.search(shown.as_bytes(), before, Some(seams), pass)? {
            if !seams.covers(before.len() + one.start, before.len() + one.end) {
                spans.push(Span { start: places[one.start], end: places[one.end - 1] + 1, rule: one.rule });
            }
        }
        spans.sort_unstable();
        Ok(())
    }

    /// What is found in a stretch: what overlaps becomes one, ruled by the first of them.
    fn search(&self, data: &[u8], before: &str, seams: Option<Seams<'_>>, pass: Pass) -> Result<Vec<Match>, TooMuch> {
        let mut matches = Vec::new();
        let ahead = before.len();
        let joined;
        let data = if ahead > 0 {
            joined = [before.as_bytes(), data].concat();
            &joined
        } else {
            data
        };
        let Looks { matcher, plain, meter, .. } = self.looks;
        meter.read(STEP + matcher.matches(data, seams, &mut matches));
        let counts = pass != Pass::Joined && seams.is_none();
        plain.matches(data, pass, counts, meter, &mut matches)?;
        meter.check()?;
        matches.sort_unstable();
        let mut result: Vec<Match> = Vec::with_capacity(matches.len());
        for one in matches.into_iter().filter(|one| one.end > ahead) {
            // What begins in front of the stretch was given out up to there.
            let one = Match { start: one.start.saturating_sub(ahead), end: one.end - ahead, ..one };
            match result.last_mut() {
                Some(last) if one.start < last.end => last.end = last.end.max(one.end),
                _ => result.push(one),
            }
        }
        Ok(result)
    }

    /// The spans made longer until none splits what a reader sees as one character; those that then overlap become one.
    fn undivided(&self, spans: &[Span], least: usize, most: usize) -> Vec<Span> {
        let searched: &str = &self.searched;
        let mut result: Vec<Span> = Vec::with_capacity(spans.len());
        for span in spans {
            let mut span = *span;
            let mut ahead = searched[least..span.start].chars();
            let mut first = searched[span.start..].chars().next();
            while let (Some(one), Some(other)) = (ahead.next_back(), first) {
                if !text::together(one, other) {
                    break;
                }
                span.start -= one.len_utf8();
                first = Some(one);
            }
            let mut behind = searched[span.end..most].chars();
            let mut last = searched[..span.end].chars().next_back();
            while let (Some(one), Some(other)) = (last, behind.next()) {
                if !text::together(one, other) {
                    break;
                }
                span.end += other.len_utf8();
                last = Some(other);
            }
            match result.last_mut() {
                Some(last) if span.start < last.end => last.end = last.end.max(span.end),
                _ => result.push(span),
            }
        }
        result
    }

    /// The text with its replacements, and the findings.
    fn replaced(&self, spans: &[Span]) -> Redacted<'a> {
        let mut text = String::with_capacity(self.text.len());
        let mut findings = Vec::with_capacity(spans.len());
        let length = if self.ascii { str::len } else { text::length };
        let (mut done, mut characters) = (0, 0);
        for span in spans {
            let (start, end) = (self.in_text(span.start), self.in_text(span.end));
            let first = characters + length(&self.text[done..start]);
            characters = first + length(&self.text[start..end]);
            text.push_str(&self.text[done..start]);
            let replacement = self.looks.replacements.of(span.rule, &self.text[start..end]);
            text.push_str(&replacement);
            findings.push(Finding { start: first, end: characters, rule: span.rule, replacement });
            done = end;
        }
        text.push_str(&self.text[done..]);
        Redacted { text, findings }
    }
}
