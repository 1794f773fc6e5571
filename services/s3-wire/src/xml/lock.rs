//! The documents of object lock, which requests and answers share: ObjectLockConfiguration, Retention, LegalHold. And VersioningConfiguration, without
//! which there is no lock.

use super::pull::{Pull, malformed};
use super::requests::{check_size, number, once};
use super::{Document, VersioningConfiguration};
use crate::dates::parse_iso8601;
use crate::error::{ErrorCode, S3Error};

/// Most bytes of each of these documents; longer bodies get `MaxMessageLengthExceeded`.
pub const LOCK_BYTES_MAX: usize = 16 << 10;
/// The longest default retention, in days (S3: 100 years).
pub const RETENTION_DAYS_MAX: u32 = 36_500;
/// The longest default retention, in years (S3).
pub const RETENTION_YEARS_MAX: u32 = 100;

/// How strictly a version is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Whoever has the right can bypass it.
    Governance,
    /// Nobody can.
    Compliance,
}

impl LockMode {
    /// As AWS writes it.
    pub fn name(self) -> &'static str {
        match self {
            LockMode::Governance => "GOVERNANCE",
            LockMode::Compliance => "COMPLIANCE",
        }
    }

    /// `None` for every other text.
    pub fn from_name(name: &str) -> Option<LockMode> {
        [LockMode::Governance, LockMode::Compliance]
            .into_iter()
            .find(|mode| mode.name() == name)
    }
}

/// How long a bucket keeps what is written into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockSpan {
    /// 1 to [`RETENTION_DAYS_MAX`].
    Days(u32),
    /// 1 to [`RETENTION_YEARS_MAX`].
    Years(u32),
}

/// The object lock of a bucket, with its default retention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectLockConfiguration {
    /// If there is one.
    pub default: Option<(LockMode, LockSpan)>,
}

impl ObjectLockConfiguration {
    /// Parses a body.
    ///
    /// # Errors
    /// `MalformedXML`, `MaxMessageLengthExceeded`; `InvalidArgument` for a span out of bounds.
    pub fn parse(body: &[u8]) -> Result<ObjectLockConfiguration, S3Error> {
        check_size(body, LOCK_BYTES_MAX)?;
        let mut pull = Pull::begin(body, "ObjectLockConfiguration")?;
        let (mut enabled, mut rule) = (None, None);
        pull.children(|pull, name| match name {
            "ObjectLockEnabled" => once(&mut enabled, pull.text()?),
            "Rule" => {
                let mut default = None;
                pull.children(|pull, name| match name {
                    "DefaultRetention" => once(&mut default, default_retention(pull)?),
                    _ => Err(malformed()),
                })?;
                once(&mut rule, default.ok_or_else(malformed)?)
            }
            _ => Err(malformed()),
        })?;
        pull.finish()?;
        match enabled.as_deref().map(str::trim) {
            Some("Enabled") => Ok(ObjectLockConfiguration { default: rule }),
            _ => Err(malformed()),
        }
    }

    /// The document.
    pub fn to_xml(&self) -> String {
        let mut document = Document::new("ObjectLockConfiguration");
        document.text("ObjectLockEnabled", "Enabled");
        if let Some((mode, span)) = self.default {
            document.open("Rule");
            document.open("DefaultRetention");
            document.text("Mode", mode.name());
            match span {
                LockSpan::Days(days) => document.number("Days", u64::from(days)),
                LockSpan::Years(years) => document.number("Years", u64::from(years)),
            }
        }
        document.finish()
    }
}

fn default_retention(pull: &mut Pull<'_>) -> Result<(LockMode, LockSpan), S3Error> {
    let (mut mode, mut days, mut years) = (None, None, None);
    pull.children(|pull, name| {
        let text = pull.text()?;
        match name {
            "Mode" => once(&mut mode, lock_mode(&text)?),
            "Days" => once(&mut days, span(&text, RETENTION_DAYS_MAX)?),
            "Years" => once(&mut years, span(&text, RETENTION_YEARS_MAX)?),
            _ => Err(malformed()),
        }
    })?;
    let span = match (days, years) {
        (Some(days), None) => LockSpan::Days(days),
        (None, Some(years)) => LockSpan::Years(years),
        _ => return Err(malformed()),
    };
    Ok((mode.ok_or_else(malformed)?, span))
}

fn lock_mode(text: &str) -> Result<LockMode, S3Error> {
    LockMode::from_name(text.trim()).ok_or_else(malformed)
}

fn span(text: &str, max: u32) -> Result<u32, S3Error> {
    let negative = text
        .trim()
        .strip_prefix('-')
        .is_some_and(|rest| number(rest).is_ok());
    if negative || number(text)? == 0 {
        let message = "Default retention period must be a positive integer value.";
        return Err(S3Error::with(ErrorCode::InvalidArgument, message));
    }
    let found = u32::try_from(number(text)?)
        .ok()
        .filter(|span| *span <= max);
    found.ok_or_else(|| {
        let message = "Default retention period too large.";
        S3Error::with(ErrorCode::InvalidArgument, message)
    })
}

/// The retention of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How strictly it is kept.
    pub mode: LockMode,
    /// Until when, in seconds since 1970.
    pub until_s: u64,
}

impl Retention {
    /// Parses a body. `None`: it asks for none.
    ///
    /// # Errors
    /// `MalformedXML` (also for one of mode and date without the other), `MaxMessageLengthExceeded`.
    pub fn parse(body: &[u8]) -> Result<Option<Retention>, S3Error> {
        check_size(body, LOCK_BYTES_MAX)?;
        let mut pull = Pull::begin(body, "Retention")?;
        let (mut mode, mut until) = (None, None);
        pull.children(|pull, name| {
            let text = pull.text()?;
            match name {
                "Mode" => once(&mut mode, lock_mode(&text)?),
                "RetainUntilDate" => {
                    let until_s = parse_iso8601(text.trim()).ok_or_else(malformed)?;
                    once(&mut until, until_s)
                }
                _ => Err(malformed()),
            }
        })?;
        pull.finish()?;
        match (mode, until) {
            (Some(mode), Some(until_s)) => Ok(Some(Retention { mode, until_s })),
            (None, None) => Ok(None),
            _ => Err(malformed()),
        }
    }

    /// The document.
    pub fn to_xml(&self) -> String {
        let mut document = Document::new("Retention");
        document.text("Mode", self.mode.name());
        document.date("RetainUntilDate", self.until_s.saturating_mul(1_000));
        document.finish()
    }
}

/// The legal hold of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegalHold {
    /// `ON` or `OFF`.
    pub on: bool,
}

impl LegalHold {
    /// Parses a body.
    ///
    /// # Errors
    /// `MalformedXML`, `MaxMessageLengthExceeded`.
    pub fn parse(body: &[u8]) -> Result<LegalHold, S3Error> {
        check_size(body, LOCK_BYTES_MAX)?;
        let mut pull = Pull::begin(body, "LegalHold")?;
        let mut status = None;
        pull.children(|pull, name| match name {
            "Status" => once(&mut status, pull.text()?),
            _ => Err(malformed()),
        })?;
        pull.finish()?;
        let status = status.ok_or_else(malformed)?;
        LegalHold::from_name(status.trim()).ok_or_else(malformed)
    }

    /// As AWS writes it.
    pub fn name(self) -> &'static str {
        if self.on { "ON" } else { "OFF" }
    }

    /// `None` for every other text.
    pub fn from_name(name: &str) -> Option<LegalHold> {
        match name {
            "ON" => Some(LegalHold { on: true }),
            "OFF" => Some(LegalHold { on: false }),
            _ => None,
        }
    }

    /// The document.
    pub fn to_xml(self) -> String {
        let mut document = Document::new("LegalHold");
        document.text("Status", self.name());
        document.finish()
    }
}

impl VersioningConfiguration<'_> {
    /// Parses a body of PutBucketVersioning: whether versioning is to be enabled, or suspended.
    ///
    /// # Errors
    /// `MalformedXML`, `MaxMessageLengthExceeded`; `IllegalVersioningConfigurationException` where no status is given;
    /// `NotImplemented` for MFA delete.
    pub fn parse(body: &[u8]) -> Result<bool, S3Error> {
        check_size(body, LOCK_BYTES_MAX)?;
        let mut pull = Pull::begin(body, "VersioningConfiguration")?;
        let (mut status, mut mfa) = (None, None);
        pull.children(|pull, name| match name {
            "Status" => once(&mut status, pull.text()?),
            "MfaDelete" => once(&mut mfa, pull.text()?),
            _ => Err(malformed()),
        })?;
        pull.finish()?;
        match mfa.as_deref().map(str::trim) {
            None | Some("Disabled") => {}
            Some("Enabled") => return Err(S3Error::not_implemented("Element", "MfaDelete")),
            Some(_) => return Err(malformed()),
        }
        match status.as_deref().map(str::trim) {
            Some("Enabled") => Ok(true),
            Some("Suspended") => Ok(false),
            Some(_) => Err(malformed()),
            None => Err(ErrorCode::IllegalVersioningConfigurationException.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn documents_come_back_as_they_were_written() {
        for default in [
            None,
            Some((LockMode::Governance, LockSpan::Days(1))),
            Some((LockMode::Compliance, LockSpan::Years(100))),
        ] {
            let lock = ObjectLockConfiguration { default };
            assert_eq!(
                ObjectLockConfiguration::parse(lock.to_xml().as_bytes()).unwrap(),
                lock
            );
        }
        let retention = Retention {
            mode: LockMode::Compliance,
            until_s: 1_255_369_830,
        };
        let xml = retention.to_xml();
        assert!(xml.contains("<RetainUntilDate>2009-10-12T17:50:30.000Z</RetainUntilDate>"));
        assert_eq!(Retention::parse(xml.as_bytes()).unwrap(), Some(retention));
        assert_eq!(Retention::parse(b"<Retention/>").unwrap(), None);
        for on in [true, false] {
            let hold = LegalHold { on };
            assert_eq!(LegalHold::parse(hold.to_xml().as_bytes()).unwrap(), hold);
        }
    }

    #[test]
    fn a_lock_that_says_nothing_or_too_much_is_refused() {
        let check = |inside: &str, code| {
            let body = format!("<ObjectLockConfiguration>{inside}</ObjectLockConfiguration>");
            let refused = ObjectLockConfiguration::parse(body.as_bytes()).unwrap_err();
            assert_eq!(refused.code, code, "{inside}");
        };
        let rule = |inside: &str| {
            format!(
                "<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>{inside}</DefaultRetention></Rule>"
            )
        };
        check("", ErrorCode::MalformedXML);
        check(
            "<ObjectLockEnabled>Disabled</ObjectLockEnabled>",
            ErrorCode::MalformedXML,
        );
        check(&rule(""), ErrorCode::MalformedXML);
        check(&rule("<Mode>GOVERNANCE</Mode>"), ErrorCode::MalformedXML);
        check(&rule("<Days>1</Days>"), ErrorCode::MalformedXML);
        check(
            &rule("<Mode>governance</Mode><Days>1</Days>"),
            ErrorCode::MalformedXML,
        );
        check(
            &rule("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>"),
            ErrorCode::MalformedXML,
        );
        for span in [
            "<Days>0</Days>",
            "<Years>-1</Years>",
            "<Days>36501</Days>",
            "<Years>101</Years>",
        ] {
            check(
                &rule(&format!("<Mode>GOVERNANCE</Mode>{span}")),
                ErrorCode::InvalidArgument,
            );
        }
    }

    #[test]
    fn a_retention_has_mode_and_date_or_neither() {
        let check = |inside: &str| {
            let body = format!("<Retention>{inside}</Retention>");
            assert!(Retention::parse(body.as_bytes()).is_err(), "{inside}");
        };
        check("<Mode>GOVERNANCE</Mode>");
        check("<RetainUntilDate>2031-01-01T00:00:00Z</RetainUntilDate>");
        check("<Mode>GOVERNANCE</Mode><RetainUntilDate>tomorrow</RetainUntilDate>");
        check("<Mode>NONE</Mode><RetainUntilDate>2031-01-01T00:00:00Z</RetainUntilDate>");
        assert!(LegalHold::parse(b"<LegalHold><Status>on</Status></LegalHold>").is_err());
        assert!(LegalHold::parse(b"<LegalHold/>").is_err());
    }

    #[test]
    fn versioning_is_enabled_or_suspended() {
        let check = |inside: &str| {
            let body = format!("<VersioningConfiguration>{inside}</VersioningConfiguration>");
            VersioningConfiguration::parse(body.as_bytes()).map_err(|error| error.code)
        };
        assert_eq!(check("<Status>Enabled</Status>"), Ok(true));
        assert_eq!(
            check("<MfaDelete>Disabled</MfaDelete><Status>Suspended</Status>"),
            Ok(false)
        );
        assert_eq!(check("<Status>Off</Status>"), Err(ErrorCode::MalformedXML));
        assert_eq!(
            check(""),
            Err(ErrorCode::IllegalVersioningConfigurationException)
        );
        let mfa = "<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>";
        assert_eq!(check(mfa), Err(ErrorCode::NotImplemented));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(body in "(</?(ObjectLockConfiguration|ObjectLockEnabled|Rule|DefaultRetention|Mode|Days|Retention|LegalHold|Status|VersioningConfiguration)/?>|[a-zA-Z0-9&;#-]{0,8}){0,12}") {
            for root in ["ObjectLockConfiguration", "Retention", "LegalHold", "VersioningConfiguration"] {
                let body = format!("<{root}>{body}");
                let _ = ObjectLockConfiguration::parse(body.as_bytes());
                let _ = Retention::parse(body.as_bytes());
                let _ = LegalHold::parse(body.as_bytes());
                let _ = VersioningConfiguration::parse(body.as_bytes());
            }
        }
    }
}
