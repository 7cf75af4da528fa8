//! Tables and numbers for people.

/// Columns side by side: the first to the left, the others, which are numbers, to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let all = || {
        std::iter::once(head.iter().map(ToString::to_string).collect::<Vec<_>>())
            .chain(rows.iter().cloned())
    };
    let widths: Vec<usize> = (0..head.len())
        .map(|i| {
            all()
                .filter_map(|r| r.get(i).map(|c| c.chars().count()))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: Vec<String>| {
        let cells: Vec<String> = (row.iter().zip(&widths).enumerate())
            .map(|(i, (cell, width))| {
                if i == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    all().map(line).collect::<Vec<_>>().join("\n")
}

/// A Markdown table.
pub fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        out.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    out
}

/// `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// The value below which `percent` of the samples lie (nearest rank); `None` without samples.
pub fn percentile(samples: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_set_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        let rows = vec![
            vec!["a".into(), "7".into()],
            vec!["long".into(), "1234".into()],
        ];
        assert_eq!(
            table(&["name", "n"], &rows),
            "name     n\na        7\nlong  1234"
        );
    }

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&samples, 50), Some(50.0));
        assert_eq!(percentile(&samples, 99), Some(99.0));
        assert_eq!(percentile(&[3.0], 99), Some(3.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
