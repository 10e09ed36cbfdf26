//! Medians, spreads, and numbers as people write them.

/// The middle of some numbers; of an even number of them, the mean of the two.
pub fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// How far the smallest and the largest are from the median, the greater of both, as a part of it.
pub fn spread(numbers: &[f64]) -> Option<f64> {
    let median = median(numbers)?;
    let far = numbers.iter().map(|number| (number - median).abs());
    Some(far.fold(0.0, f64::max) / median)
}

/// Three digits that count, thousands apart.
pub fn short(number: f64) -> String {
    if number >= 1000.0 {
        let digits = number.log10().floor() as i32 - 2;
        let unit = 10f64.powi(digits);
        return thousands((number / unit).round() * unit);
    }
    if number >= 100.0 {
        format!("{number:.0}")
    } else if number >= 10.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_spread_is_the_farthest_from_the_median() {
        assert_eq!(spread(&[10.0, 9.0, 13.0]), Some(0.3));
    }

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(short(1_234_567.0), "1,230,000");
        assert_eq!(short(999.6), "1000");
        assert_eq!(short(12.34), "12.3");
        assert_eq!(short(0.1), "0.10");
    }
}
