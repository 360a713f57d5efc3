//! What is checked beyond a pattern, by the name that a rule's `validation` gives.
//!
//! Each check says how many bytes of a match are the finding, from its start; 0 refuses the match. A user's pattern may
//! find what a check was not made for: that is not what it checks, and is refused.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regex_automata::meta::Regex;

pub type Check = fn(&[u8]) -> usize;

pub const CHECKS: [(&str, Check); 12] = [
    ("luhn", luhn),
    ("ssn", ssn),
    ("ipv4", ipv4),
    ("ipv6", ipv6),
    ("iban", iban),
    ("e164", e164),
    ("has_digit", has_digit),
    ("host_end", host_end),
    ("secret_text", secret_text),
    ("secret_value", secret_value),
    ("jwt_header", jwt_header),
    ("url_end", url_end),
];

pub fn named(name: &str) -> Option<Check> {
    CHECKS.iter().find(|(known, _)| *known == name).map(|&(_, check)| check)
}

/// First and last of the numbers that each brand issues, as their first six digits, and how long they are: ISO/IEC 7812
/// and the brands' own tables. Sorted, so that the brand of a number is found by bisection.
const BRANDS: [(u32, u32, &[usize]); 18] = [
    (100_000, 199_999, &[15]),             // UATP
    (222_100, 272_099, &[16]),             // Mastercard
    (300_000, 305_999, &[14, 16]),         // Diners Club
    (309_500, 309_599, &[14, 16]),         //
    (340_000, 349_999, &[15]),             // American Express
    (352_800, 358_999, &[16, 17, 18, 19]), // JCB
    (360_000, 369_999, &[14]),             // Diners Club
    (370_000, 379_999, &[15]),             // American Express
    (380_000, 399_999, &[14, 16]),         // Diners Club
    (400_000, 499_999, &[13, 16, 19]),     // Visa
    (500_000, 509_999, MAESTRO),           // Maestro, Dankort
    (510_000, 559_999, &[16]),             // Mastercard
    (560_000, 589_999, MAESTRO),           //
    (601_100, 601_199, &[16, 17, 18, 19]), // Discover
    (620_000, 629_999, &[16, 17, 18, 19]), // UnionPay
    (630_000, 639_999, MAESTRO),           //
    (644_000, 659_999, &[16, 17, 18, 19]), // Discover
    (660_000, 699_999, MAESTRO),           //
];
const MAESTRO: &[usize] = &[12, 13, 14, 15, 16, 17, 18, 19];

/// How long the account numbers of a country are, check digits included: SWIFT's IBAN registry, release 99.
const IBAN_LENGTHS: [(usize, &str); 18] = [
    (15, "NO"),
    (16, "BE"),
    (18, "DK FK FI FO GL NL SD"),
    (19, "MK SI"),
    (20, "AT BA EE KZ LT LU MN XK"),
    (21, "CH HR LI LV"),
    (22, "BG BH CR DE GB GE IE ME RS VA"),
    (23, "AE GI IL IQ OM SO TL"),
    (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
    (25, "LY PT ST"),
    (26, "IS TR"),
    (27, "BI DJ FR GR IT MC MR SM"),
    (28, "AL AZ BY CY DO GT HN HU LB NI PL SV"),
    (29, "BR EG PS QA UA"),
    (30, "JO KW MU YE"),
    (31, "MT SC"),
    (32, "LC"),
    (33, "RU"),
];

static IBAN_LENGTH: LazyLock<HashMap<&[u8], usize>> = LazyLock::new(|| {
    let of_all = IBAN_LENGTHS.iter();
    of_all.flat_map(|&(length, countries)| countries.split(' ').map(move |one| (one.as_bytes(), length))).collect()
});

/// Country codes of the telephone network (ITU-T E.164); those that begin with another digit have one, two or three.
static CALLING_CODES: LazyLock<Regex> = LazyLock::new(|| {
    own(concat!(
        r"^(?:1|7|2(?:0|7|1[1-368]|2[0-9]|3[0-9]|4[0-9]|5[0-8]|6[0-9]|9[0179])|3(?:[0-469]|5[0-9]|7[0-8]|8[0-35-79])",
        r"|4(?:[013-9]|2[013])|5(?:[1-8]|0[0-9]|9[0-9])|6(?:[0-6]|7[02-9]|8[0-35-9]|9[0-2])",
        r"|8(?:[1246]|0[08]|5[02356]|7[08]|8[0-368])|9(?:[0-58]|6[0-8]|7[0-79]|9[2-68]))"
    ))
});
/// `${NAME}`, `$NAME`, `{{ name }}`, `<name>`, `%(name)s`.
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| own(r"^(?:\$\{[^}]*\}?$|\$[A-Za-z_.]+$|\{\{|<[^>]*>$|%[({])"));
/// `name(`, `name.other[`, `name.other`.
static CALL: LazyLock<Regex> = LazyLock::new(|| own(r"^(?:[A-Za-z_][0-9A-Za-z_.]*[\[(]|[A-Za-z_.]+$)"));
static ODD_MARKS: LazyLock<Regex> =
    LazyLock::new(|| own(r"[!#$%&*+<=>?@^`{|}~\\][^\t\n\v\f\r ]*[!#$%&*+<=>?@^`{|}~\\]"));

fn own(pattern: &str) -> Regex {
    crate::pattern::compiled(pattern).expect("a pattern of this file")
}

fn without(value: &[u8], marks: &[u8]) -> Vec<u8> {
    value.iter().copied().filter(|byte| !marks.contains(byte)).collect()
}

fn all_digits(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_digit)
}

/// A card number of a known brand and length that passes the Luhn test.
///
/// Three more digits behind a grouped number may be its own (Visa has numbers of 19 digits) or the card's code.
fn luhn(value: &[u8]) -> usize {
    if is_card(&without(value, b" .-")) {
        return value.len();
    }
    let grouped = value.len() > 4 && b" .-".contains(&value[value.len() - 4]);
    if grouped && is_card(&without(&value[..value.len() - 4], b" .-")) { value.len() - 4 } else { 0 }
}

fn is_card(number: &[u8]) -> bool {
    if number.len() < 6 || !all_digits(number) {
        return false;
    }
    let beginning = number[..6].iter().fold(0, |sum, digit| 10 * sum + u32::from(digit - b'0'));
    let at = BRANDS.partition_point(|brand| brand.0 <= beginning);
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum = |(at, digit): (usize, &u8)| {
        let digit = u32::from(digit - b'0');
        if at % 2 == 0 { digit } else { doubled(digit) }
    };
    at > 0
        && beginning <= BRANDS[at - 1].1
        && BRANDS[at - 1].2.contains(&number.len())
        && number.iter().rev().enumerate().map(sum).sum::<u32>() % 10 == 0
}

/// As much as the country's account numbers have, if the check digits are right (ISO 13616, ISO 7064 MOD 97-10).
fn iban(value: &[u8]) -> usize {
    let compact = without(value, b" ");
    let country = compact.get(..2).unwrap_or_default();
    let Some(&length) = IBAN_LENGTH.get(country) else { return 0 };
    if compact.len() < length || !compact.iter().all(u8::is_ascii_alphanumeric) {
        return 0;
    }
    let rest = compact[4..length].iter().chain(&compact[..4]).fold(0, |rest: u32, character| {
        let number = char::from(*character).to_digit(36).unwrap_or(0);
        (if number < 10 { 10 * rest } else { 100 * rest } + number) % 97
    });
    if rest != 1 {
        return 0;
    }
    let mut places = value.iter().enumerate().filter(|(_, character)| **character != b' ').map(|(at, _)| at + 1);
    let end = places.nth(length - 1).unwrap_or(0);
    if matches!(value.get(end), None | Some(b' ')) { end } else { 0 }
}

/// A telephone number with the code of a country and 8 to 15 digits, its extension not counted.
fn e164(value: &[u8]) -> usize {
    let end = value.iter().position(|byte| !b"+0123456789 .()/-".contains(byte)).unwrap_or(value.len());
    let digits = without(&value[..end], b"+ .()/-");
    if (8..=15).contains(&digits.len()) && CALLING_CODES.is_match(&digits) { value.len() } else { 0 }
}

/// A number that can have been issued: area neither 000, 666 nor 900 and above, group and serial not zero.
fn ssn(value: &[u8]) -> usize {
    let digits = without(value, b" .-");
    if digits.len() != 9 || !all_digits(&digits) {
        return 0;
    }
    let (area, group, serial) = (&digits[..3], &digits[3..5], &digits[5..]);
    let issued = area != b"000" && area != b"666" && area[0] != b'9' && group != b"00" && serial != b"0000";
    if issued { value.len() } else { 0 }
}

/// Four numbers of at most 255, whatever follows a slash.
fn ipv4(value: &[u8]) -> usize {
    let address = value.split(|&byte| byte == b'/').next().unwrap_or_default();
    let octet =
        |part: &[u8]| all_digits(part) && std::str::from_utf8(part).is_ok_and(|text| text.parse::<u8>().is_ok());
    if address.split(|&byte| byte == b'.').all(octet) { value.len() } else { 0 }
}

/// An address, and not only colons; the zone and the prefix are not checked.
fn ipv6(value: &[u8]) -> usize {
    let address = value.split(|byte| b"%/".contains(byte)).next().unwrap_or_default();
    let real = std::str::from_utf8(address).is_ok_and(|text| Ipv6Addr::from_str(text).is_ok());
    if real && address.iter().any(|&byte| byte != b':') { value.len() } else { 0 }
}

/// The first part is the Base64url of a JSON object that names its algorithm.
fn jwt_header(value: &[u8]) -> usize {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &URL_SAFE,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::RequireNone)
            .with_decode_allow_trailing_bits(true),
    );
    let encoded = value.split(|&byte| byte == b'.').next().unwrap_or_default();
    let end = encoded.iter().rposition(|&byte| byte != b'=').map_or(0, |at| at + 1);
    let decoded = LENIENT.decode(&encoded[..end]).unwrap_or_default();
    let header = serde_json::from_slice::<serde_json::Value>(&decoded).unwrap_or_default();
    if header.get("alg").is_some_and(serde_json::Value::is_string) { value.len() } else { 0 }
}

/// Not only letters and marks.
fn has_digit(value: &[u8]) -> usize {
    if value.iter().any(u8::is_ascii_digit) { value.len() } else { 0 }
}

/// What a person put into quotes: no reference to where it stands, and not the same mark again and again.
fn secret_text(value: &[u8]) -> usize {
    let mut different = Vec::with_capacity(4);
    for byte in value {
        if !different.contains(byte) {
            different.push(*byte);
            if different.len() == 4 {
                return if REFERENCE.is_match(value) { 0 } else { value.len() };
            }
        }
    }
    0
}

/// What a person set, without quotes: no variable, call or word, and digits or odd marks in it.
fn secret_value(value: &[u8]) -> usize {
    // What closes something that was opened before the value, and by what; the others end a sentence or a part of one.
    let opening = |byte| match byte {
        b')' => Some(b'('),
        b']' => Some(b'['),
        b'}' => Some(b'{'),
        b'>' => Some(b'<'),
        b',' | b';' | b'.' | b'`' => Some(b'\n'),
        _ => None,
    };
    let mut counts = [0_usize; 256];
    for &byte in value {
        counts[usize::from(byte)] += 1;
    }
    let mut value = value;
    while let Some(&last) = value.last() {
        match opening(last) {
            Some(open) if counts[usize::from(last)] > counts[usize::from(open)] => {
                counts[usize::from(last)] -= 1;
                value = &value[..value.len() - 1];
            }
            _ => break,
        }
    }
    if value.len() < 8 || CALL.is_match(value) {
        return 0;
    }
    if has_digit(value) > 0 || ODD_MARKS.is_match(value) { secret_text(value) } else { 0 }
}

fn stripped(value: &[u8], marks: &[u8]) -> usize {
    value.iter().rposition(|byte| !marks.contains(byte)).map_or(0, |at| at + 1)
}

/// The address without the punctuation behind it, if its host has a letter or a digit.
fn url_end(value: &[u8]) -> usize {
    let end = stripped(value, b".,;:!?*'~([{");
    let address = &value[..end];
    let starts = address.windows(3).enumerate().filter(|(_, three)| three == b"://").map(|(at, _)| at + 3);
    let named = |start: usize| {
        let mut host = address[start..].iter().take_while(|&&byte| byte != b'/');
        host.any(|&byte| byte.is_ascii_alphanumeric() || byte >= 0x80)
    };
    if starts.into_iter().any(named) { end } else { 0 }
}

/// The name of a host without the punctuation behind it.
fn host_end(value: &[u8]) -> usize {
    stripped(value, b".,;:!?*'")
}
