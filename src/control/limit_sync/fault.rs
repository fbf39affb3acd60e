//! Why Redis gave no answer.

use std::fmt;

/// Text of Redis' that is repeated to the operator.
const TEXT_CHARS_MAX: usize = 120;

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It can not be reached, or the connection ended.
    Broken(String),
    /// There was none in time.
    Silent(&'static str),
    /// What came is none.
    Nonsense(&'static str),
    /// It said why: the code, and the rest.
    Refused(Box<str>, Box<str>),
}

impl Fault {
    /// What came is no answer.
    pub(super) fn nonsense(what: &'static str) -> Self {
        Self::Nonsense(what)
    }

    /// Redis said that it does not want to.
    pub(super) fn refused(error: &redis::ServerError) -> Self {
        Self::Refused(clean(error.code()), clean(error.details().unwrap_or_default()))
    }

    /// Whether the scripts have to be loaded again.
    pub(super) fn is_no_script(&self) -> bool {
        matches!(self, Self::Refused(code, _) if &**code == "NOSCRIPT")
    }

    /// Whether the key is with another Redis of the cluster by now, or on its way there.
    pub(super) fn is_moved(&self) -> bool {
        matches!(self, Self::Refused(code, _) if matches!(&**code, "MOVED" | "ASK" | "TRYAGAIN"))
    }

    /// Whether it is about the keys of one question alone: the script failed, or one of them is of another type.
    pub(super) fn is_of_question(&self) -> bool {
        match self {
            Self::Refused(code, text) => {
                &**code == "WRONGTYPE" || text.contains("WRONGTYPE") || (&**code == "ERR" && text.contains("script"))
            }
            _ => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(what) => f.write_str(what),
            Self::Silent(what) => f.write_str(what),
            Self::Nonsense(what) => write!(f, "it sent {what}"),
            Self::Refused(code, text) if text.is_empty() => write!(f, "it says {code}"),
            Self::Refused(code, text) => write!(f, "it says {code} {text}"),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Text that may go into a log line.
fn clean(text: &str) -> Box<str> {
    text.chars().take(TEXT_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into()
}
