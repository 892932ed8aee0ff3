//! From when until when a certificate holds, read from its DER.
//!
//! What verifies certificates tells only whether one holds for somebody else;
//! these two dates are all that is read here, and nothing is trusted for them.

/// In unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    /// It holds from then on.
    pub(super) begin: i64,
    /// And until then.
    pub(super) end: i64,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The dates of a certificate, if it is one.
pub(super) fn of(der: &[u8]) -> Option<Validity> {
    let mut certificate = Elements(element(der, SEQUENCE)?);
    let mut fields = Elements(certificate.next_of(SEQUENCE)?);
    if fields.0.first() == Some(&VERSION) {
        fields.next()?;
    }
    // Serial number, algorithm, issuer.
    fields.next()?;
    fields.next()?;
    fields.next()?;
    let mut dates = Elements(fields.next_of(SEQUENCE)?);
    Some(Validity {
        begin: time(dates.next()?)?,
        end: time(dates.next()?)?,
    })
}

fn element(der: &[u8], tag: u8) -> Option<&[u8]> {
    Elements(der).next_of(tag)
}

/// Elements one after another.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    fn next_of(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|found| found.0 == tag).map(|(_, v)| v)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                (length, rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let year: i64 = text[..2].parse().ok()?;
            (year + if year < 50 { 2000 } else { 1900 }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let part = |index: usize| rest[index * 2..index * 2 + 2].parse::<i64>().ok();
    let (month, day) = (part(0)?, part(1)?);
    let of_day = part(2)? * 3600 + part(3)? * 60 + part(4)?;
    // Days since 1970, with years that begin in March (Hinnant's
    // days_from_civil).
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + of_day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn the_dates_of_a_certificate_are_read_and_a_part_of_one_is_none() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/first.pem");
        let der = CertificateDer::from_pem_file(path).expect("a certificate");
        let dates = of(&der).expect("dates");
        // openssl x509 -dates says the same of it.
        assert_eq!((dates.begin, dates.end), (1_795_288_003, 4_948_888_003));
        for length in 0..der.len().min(200) {
            // No panic, whatever is cut off.
            let _ = of(&der[..length]);
        }
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn both_forms_of_a_time_are_read() {
        assert_eq!(time((UTC_TIME, b"700101000000Z")), Some(0));
        assert_eq!(time((UTC_TIME, b"240229235959Z")), Some(1_709_251_199));
        assert_eq!(
            time((GENERALIZED_TIME, b"21000301000000Z")),
            Some(4_107_542_400)
        );
        for wrong in [&b"2402292359Z"[..], b"240229235959", b"2402292359+9Z", b""] {
            assert_eq!(time((UTC_TIME, wrong)), None);
        }
    }
}
