//! How fresh a read has to be.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How fresh a read has to be; `?read=` of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ReadLevel {
    /// All that was acknowledged before the read began. The leader answers, after a round of heartbeats.
    #[default]
    Linearizable,
    /// The same without a round, while the clocks of the nodes run about equally fast.
    Lease,
    /// What any node has, unless it knows that it is too far behind.
    Follower,
    /// Any node, once it has the log up to this index: a write's `log_index`, so a client sees what it wrote.
    AtLeast(u64),
    /// What this node has, however old.
    Local,
}

impl fmt::Display for ReadLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadLevel::Linearizable => f.write_str("linearizable"),
            ReadLevel::Lease => f.write_str("lease"),
            ReadLevel::Follower => f.write_str("follower"),
            ReadLevel::AtLeast(index) => write!(f, "at_least:{index}"),
            ReadLevel::Local => f.write_str("local"),
        }
    }
}

/// The text is not a read level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongReadLevel;

impl fmt::Display for WrongReadLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "`read` is one of `linearizable`, `lease`, `follower`, `local`, and `at_least:` with a log index",
        )
    }
}

impl std::error::Error for WrongReadLevel {}

impl FromStr for ReadLevel {
    type Err = WrongReadLevel;

    fn from_str(text: &str) -> Result<Self, WrongReadLevel> {
        Ok(match text {
            "linearizable" => ReadLevel::Linearizable,
            "lease" => ReadLevel::Lease,
            "follower" => ReadLevel::Follower,
            "local" => ReadLevel::Local,
            _ => match text.strip_prefix("at_least:").map(str::parse) {
                Some(Ok(index)) => ReadLevel::AtLeast(index),
                _ => return Err(WrongReadLevel),
            },
        })
    }
}

impl TryFrom<String> for ReadLevel {
    type Error = WrongReadLevel;

    fn try_from(text: String) -> Result<Self, WrongReadLevel> {
        text.parse()
    }
}

impl From<ReadLevel> for String {
    fn from(level: ReadLevel) -> String {
        level.to_string()
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ReadLevel {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ReadLevel".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "How fresh the answer has to be. `linearizable` (the default): all that was acknowledged before; \
                the leader answers. `lease`: the same without a round of heartbeats, while clocks run about equally fast. \
                `follower`: what any node has, unless it knows that it is too far behind. `at_least:` with the `log_index` \
                of a write: any node that has it. `local`: what this node has.",
            "type": "string",
            "pattern": "^(linearizable|lease|follower|local|at_least:[0-9]{1,19})$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_read_level_has_a_name() {
        for (text, expected) in [
            ("linearizable", ReadLevel::Linearizable),
            ("lease", ReadLevel::Lease),
            ("follower", ReadLevel::Follower),
            ("local", ReadLevel::Local),
            ("at_least:17", ReadLevel::AtLeast(17)),
        ] {
            assert_eq!(text.parse(), Ok(expected));
            assert_eq!(expected.to_string(), text);
        }
        for wrong in ["", "Local", "at_least", "at_least:", "at_least:-1"] {
            assert_eq!(wrong.parse::<ReadLevel>(), Err(WrongReadLevel), "{wrong}");
        }
    }
}
