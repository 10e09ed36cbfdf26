//! Amounts as people write them: bytes, bytes a second, time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes: `64M`, `1G`, `800K`, `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// A number of bytes a second: `50M`, `50M/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub u64);

/// A time: `250ms`, `10s`, `5m`, `24h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// The units of bytes, each with the number of bits that it is shifted by.
const UNITS: [(&str, u32); 3] = [("K", 10), ("M", 20), ("G", 30)];

fn bytes(text: &str) -> Option<u64> {
    let text = text
        .strip_suffix("iB")
        .or(text.strip_suffix('B'))
        .unwrap_or(text);
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        unit => {
            UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))?
                .1
        }
    };
    whole(digits)?.checked_mul(1 << shift)
}

/// Digits and nothing else, no sign either.
fn whole(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        bytes(text)
            .map(Size)
            .ok_or("write a number of bytes, with K, M or G if you like: 64M")
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |(_, shift): &&(&str, u32)| self.0 > 0 && self.0.is_multiple_of(1 << shift);
        match UNITS.iter().rev().find(exact) {
            Some((name, shift)) => write!(f, "{}{name}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        bytes(text.strip_suffix("/s").unwrap_or(text))
            .filter(|rate| *rate > 0)
            .map(Rate)
            .ok_or("write bytes a second, with K, M or G if you like: 50M")
    }
}

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "write a whole number and its unit, ms, s, m or h: 250ms";
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let milliseconds: u64 = match &text[digits.len()..] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 60 * 60 * 1000,
            _ => return Err(form),
        };
        whole(digits)
            .and_then(|amount| amount.checked_mul(milliseconds))
            .map(|amount| Span(Duration::from_millis(amount)))
            .ok_or(form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_number_and_perhaps_a_unit() {
        let rate = |text: &str| text.parse::<Rate>().map(|rate| rate.0);
        for (text, bytes) in [
            ("4096", 4096),
            ("800K", 800 << 10),
            ("50M", 50 << 20),
            ("50MiB/s", 50 << 20),
            ("1g", 1 << 30),
            ("7B", 7),
        ] {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for wrong in [
            "",
            "M",
            "0",
            "-1",
            "+1",
            "1.5M",
            "1T",
            "5MM",
            "99999999999G",
            "5 M",
        ] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_is_written_as_it_is_read() {
        for text in ["0", "1", "1000", "4K", "64M", "3G", "1025K"] {
            let size: Size = text.parse().expect(text);
            assert_eq!(size.to_string(), text);
        }
        assert!("64M/s".parse::<Size>().is_err());
    }

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        let span = |text: &str| text.parse::<Span>().map(|span| span.0.as_millis());
        for (text, milliseconds) in [
            ("250ms", 250),
            ("0s", 0),
            ("5m", 300_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(span(text), Ok(milliseconds), "{text}");
        }
        for wrong in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "5 s",
            "5d",
            "18446744073709551615h",
        ] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
