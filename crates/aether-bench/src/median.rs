//! The median, which one disturbed round does not affect.

/// The median, the upper one of two middle numbers; NaN without numbers.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The item with the median key, the upper one of two; `None` without items.
pub(crate) fn median_by<T>(mut items: Vec<T>, figure: impl Fn(&T) -> f64) -> Option<T> {
    items.sort_by(|one, other| figure(one).total_cmp(&figure(other)));
    let middle = items.len() / 2;
    items.into_iter().nth(middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found() {
        assert!((median([3.0, 1.0, 1000.0]) - 3.0).abs() < f64::EPSILON);
        assert!((median([4.0, 1.0]) - 4.0).abs() < f64::EPSILON);
        assert!(median([]).is_nan());
        assert_eq!(median_by(vec!["aaa", "a", "aa"], |text| text.len() as f64), Some("aa"));
        assert_eq!(median_by(Vec::<u8>::new(), |&number| f64::from(number)), None);
    }
}
