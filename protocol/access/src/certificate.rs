//! What is read out of certificates: whom they name, and until when they count.

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The DNS names and URIs that a certificate is for, in its own order: its subject alternative names. None of bytes that are
/// no certificate.
#[must_use]
pub fn certificate_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(parsed) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    parsed.valid_dns_names().chain(parsed.valid_uri_names()).map(str::to_owned).collect()
}

/// When the certificate expires, in seconds since 1970. `None` when it is not one, or ends before 1970.
#[must_use]
pub fn certificate_expires_at(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    // The version; old certificates have none.
    if let Some((_, after)) = element(rest, EXPLICIT_0) {
        rest = after;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        // Serial number, algorithm, issuer.
        rest = element(rest, tag)?.1;
    }
    let (validity, _) = element(rest, SEQUENCE)?;
    let not_before = [UTC_TIME, GENERALIZED_TIME].into_iter().find_map(|tag| element(validity, tag))?;
    match element(not_before.1, UTC_TIME) {
        // Two digits for the year: from 1950 to 2049.
        Some((time, _)) => {
            let year = u64::from(number(time.get(..2)?)?);
            seconds(if year < 50 { 2000 + year } else { 1900 + year }, time.get(2..)?)
        }
        None => {
            let (time, _) = element(not_before.1, GENERALIZED_TIME)?;
            seconds(u64::from(number(time.get(..4)?)?), time.get(4..)?)
        }
    }
}

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const EXPLICIT_0: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The content of the element at the start, if it has the tag, and what follows it.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = input.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let (bytes, rest) =
                rest.split_at_checked(usize::from(long & 0x7f)).filter(|(bytes, _)| bytes.len() <= 4)?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
    };
    if found == tag { rest.split_at_checked(length) } else { None }
}

/// Decimal digits as a number.
fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Seconds from 1970 to a time that is written as `MMDDHHMMSSZ` in the year.
fn seconds(year: u64, rest: &[u8]) -> Option<u64> {
    let part = |at: usize| rest.get(at..at + 2).and_then(number).map(u64::from);
    let (month, day) = (part(0)?, part(2)?);
    let (hour, minute, second) = (part(4)?, part(6)?, part(8)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year;
    // Days from 1 March of the year 0 to 1970.
    let since_1970 = days.checked_sub(719_468)?;
    Some(((since_1970 * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate(names: Vec<rcgen::SanType>, year: i32) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = names;
        params.not_after = rcgen::date_time_ymd(year, 2, 28);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn names_are_read_in_their_order() {
        let names = [
            rcgen::SanType::DnsName("b.games".try_into().unwrap()),
            rcgen::SanType::URI("https://a".try_into().unwrap()),
            rcgen::SanType::DnsName("*.b.games".try_into().unwrap()),
        ];
        assert_eq!(certificate_names(&certificate(names.to_vec(), 2030)), ["b.games", "*.b.games", "https://a"]);
        assert!(certificate_names(&certificate(vec![], 2030)).is_empty());
    }

    #[test]
    fn the_end_of_validity_is_read() {
        for (year, seconds) in [(2001, 983_318_400), (2024, 1_709_078_400), (2060, 2_845_152_000)] {
            assert_eq!(certificate_expires_at(&certificate(vec![], year)), Some(seconds), "28 February {year}");
        }
        assert_eq!(certificate_expires_at(&CertificateDer::from(vec![0x30, 0x80])), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..300, flip: u8) {
            let name = rcgen::SanType::DnsName("a".try_into().unwrap());
            let mut real = certificate(vec![name], 2030).to_vec();
            if let Some(byte) = real.get_mut(at) {
                *byte ^= flip;
            }
            for bytes in [bytes, real] {
                let certificate = CertificateDer::from(bytes);
                let _ = (certificate_expires_at(&certificate), certificate_names(&certificate));
            }
        }
    }
}
