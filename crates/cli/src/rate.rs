//! Bytes a second, as people write them.

use std::str::FromStr;

/// A number of bytes a second: `50M`, `1G`, `800K`, `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub u64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "write bytes a second, with K, M or G if you like: 50M".to_owned();
        let text = text.strip_suffix("/s").unwrap_or(text);
        let text = text
            .strip_suffix("iB")
            .or(text.strip_suffix('B'))
            .unwrap_or(text);
        let digits = text.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G']);
        let shift = match &text[digits.len()..] {
            "" => 0,
            "k" | "K" => 10,
            "m" | "M" => 20,
            "g" | "G" => 30,
            _ => return Err(form()),
        };
        let number: u64 = digits.parse().map_err(|_| form())?;
        match number.checked_mul(1 << shift) {
            Some(rate) if rate > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Rate(rate))
            }
            _ => Err(form()),
        }
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
}
