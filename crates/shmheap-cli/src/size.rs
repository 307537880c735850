//! Sizes as people write and read them.

use indicatif::HumanBytes;

/// Units in the order of their powers of 1024.
const UNITS: [char; 5] = ['B', 'K', 'M', 'G', 'T'];

/// Reads a size: `4096`, `64K`, `1MiB`, `2G`. Units are powers of 1024.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    if digits.is_empty() {
        return Err(format!("a size is a whole number and a unit, as {EXAMPLES}"));
    }
    if unit.starts_with(['.', ',']) {
        return Err(format!("fractions are not read; use the next smaller unit, as {EXAMPLES}"));
    }
    let power = power_of(unit.trim_start())
        .ok_or_else(|| format!("'{unit}' is not a unit; use K, M, G or T, as {EXAMPLES}"))?;
    let number: u64 = digits.parse().map_err(|_| too_large())?;
    number.checked_mul(1 << (10 * power)).ok_or_else(too_large)
}

/// A size, or what takes a limit away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<u64>);

/// Reads a size, or `none`.
pub(crate) fn parse_limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        _ => match parse(text) {
            Ok(bytes) => Ok(Limit(Some(bytes))),
            Err(why) => Err(format!("{why}; 'none' takes the quota away")),
        },
    }
}

const EXAMPLES: &str = "4096, 64K, 1MiB or 2G";

fn too_large() -> String {
    "that is more than a 64-bit machine can address".to_owned()
}

/// The power of 1024 that `unit` stands for: "", "B", "K", "KiB", "m", ...
fn power_of(unit: &str) -> Option<usize> {
    let mut letters = unit.chars();
    let Some(first) = letters.next() else { return Some(0) };
    let power = UNITS.iter().position(|&letter| letter == first.to_ascii_uppercase())?;
    match letters.as_str() {
        "" => Some(power),
        "iB" | "ib" if power > 0 => Some(power),
        _ => None,
    }
}

/// `1.50 MiB`.
pub(crate) fn long(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// At most five characters, for columns: `1.5M`, `640K`, `12B`.
pub(crate) fn short(bytes: u64) -> String {
    scaled(bytes, 1024, &["B", "K", "M", "G", "T", "P", "E"])
}

/// At most five characters, for counts in columns: `999`, `1.2M`. Units are powers of 1000.
pub(crate) fn short_count(count: u64) -> String {
    scaled(count, 1000, &["", "k", "M", "G", "T", "P", "E"])
}

/// A multiple of a power of two in the unit that is used for `scale_bytes`, without rounding where
/// three digits behind the point will do: `1.5M`, `1.625M`.
pub(crate) fn exact_in_unit_of(scale_bytes: u64, bytes: u64) -> String {
    let power = (scale_bytes.max(1).ilog2() / 10).min(UNITS.len() as u32 - 1);
    let unit = 1_u64 << (10 * power);
    let thousandths = u128::from(bytes % unit) * 1000 / u128::from(unit);
    let digits = format!("{thousandths:03}");
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    format!("{}{point}{digits}{}", bytes / unit, UNITS[power as usize])
}

fn scaled(number: u64, base: u64, units: &[&str]) -> String {
    let mut divisor = 1;
    let mut units = units.iter();
    let mut unit = units.next().unwrap_or(&"");
    while number / divisor >= base {
        divisor *= base;
        unit = units.next().unwrap_or(&"");
    }
    let whole = number / divisor;
    if divisor == 1 || whole >= 10 {
        format!("{whole}{unit}")
    } else {
        format!("{whole}.{}{unit}", number % divisor * 10 / divisor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("12B", 12),
            ("64K", 64 << 10),
            ("64k", 64 << 10),
            ("1MiB", 1 << 20),
            ("2G", 2 << 30),
            ("3 TiB", 3 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn wrong_sizes_say_why() {
        for (text, why) in [
            ("", "whole number"),
            ("K", "whole number"),
            ("-1", "whole number"),
            ("1.5G", "fractions"),
            ("1KB", "'KB' is not a unit"),
            ("1x", "'x' is not a unit"),
            ("1iB", "not a unit"),
            ("99999999999999999999", "more than"),
            ("99999999T", "more than"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn limits_may_be_none() {
        assert_eq!(parse_limit("64K"), Ok(Limit(Some(64 << 10))));
        assert_eq!(parse_limit("none"), Ok(Limit(None)));
        assert!(parse_limit("no").unwrap_err().contains("'none' takes"));
    }

    #[test]
    fn addresses_are_exact_in_one_unit() {
        let of = |bytes| exact_in_unit_of(16 << 20, bytes);
        assert_eq!(
            (of(0), of(512 << 10), of(10 << 20)),
            ("0M".into(), "0.5M".into(), "10M".into())
        );
        assert_eq!(of((1 << 20) + (128 << 10)), "1.125M");
        assert_eq!(exact_in_unit_of(100, 64), "64B");
        assert_eq!(exact_in_unit_of(u64::MAX, u64::MAX), "16777215.999T");
    }

    #[test]
    fn short_sizes_fit_their_column() {
        assert_eq!(short(0), "0B");
        assert_eq!(short(1023), "1023B");
        assert_eq!(short(1024), "1.0K");
        assert_eq!(short(10 << 20), "10M");
        assert_eq!(short((1 << 20) + (1 << 19)), "1.5M");
        assert_eq!(short_count(999), "999");
        assert_eq!(short_count(1_234_567), "1.2M");
        for shift in 0..64 {
            for bytes in [(1_u64 << shift) - 1, 1 << shift, u64::MAX >> shift] {
                assert!(short(bytes).len() <= 5, "{bytes}: {}", short(bytes));
                assert!(short_count(bytes).len() <= 5, "{bytes}");
            }
        }
    }
}
