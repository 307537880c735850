//! From figures to lengths of bars.

use super::super::document::number;

/// Figures further apart than this do not fit one linear axis: the short bars would vanish.
const LINEAR_RATIO_MAX: f64 = 30.0;

/// About so many lines of the grid.
const LINES: f64 = 4.0;

/// An axis from its left end to `most`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    Linear {
        most: f64,
    },
    /// A logarithm has no zero: the axis starts at a power of ten below all figures.
    Logarithmic {
        least: f64,
        most: f64,
    },
}

impl Scale {
    /// For these figures, all of which are seen; those `besides` may have no bar to speak of.
    pub(super) fn of(figures: &[f64], besides: &[f64]) -> Self {
        let positive = |figures: &[f64]| {
            let positive = figures.iter().copied().filter(|figure| *figure > 0.0);
            let least = positive.clone().fold(f64::INFINITY, f64::min);
            (least, positive.fold(0.0, f64::max))
        };
        let ((least, most), (least_besides, most_besides)) = (positive(figures), positive(besides));
        let is_linear = most <= least * LINEAR_RATIO_MAX;
        let (least, most) = (least.min(least_besides), most.max(most_besides));
        if most == 0.0 {
            Self::Linear { most: 1.0 }
        } else if is_linear {
            Self::Linear { most }
        } else {
            // Clearly below the least, so that its bar can be seen.
            Self::Logarithmic { least: 10_f64.powf((least / 1.25).log10().floor()), most }
        }
    }

    /// Where a figure lies: 0 at the left end, 1 at the greatest figure, more beyond.
    pub(super) fn place(self, figure: f64) -> f64 {
        let place = match self {
            Self::Linear { most } => figure / most,
            Self::Logarithmic { least, most } => (figure / least).ln() / (most / least).ln(),
        };
        place.max(0.0)
    }

    /// The lines of the grid, with their labels.
    pub(super) fn lines(self) -> Vec<(f64, String)> {
        let label = |figure: f64| (figure, tick(figure));
        match self {
            Self::Linear { most } => {
                let step = round_step(most / LINES);
                let count = (most / step).floor() as usize;
                (0..=count).map(|line| label(line as f64 * step)).collect()
            }
            Self::Logarithmic { least, most } => {
                let decades = (most / least).log10().floor() as i32;
                (0..=decades).map(|decade| label(least * 10_f64.powi(decade))).collect()
            }
        }
    }
}

/// The next of 1, 2, 5, 10, 20, ...
fn round_step(step: f64) -> f64 {
    let decade = 10_f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * decade >= step);
    factor.unwrap_or(10.0) * decade
}

/// A round number without the digits that [`number`] would show of it.
fn tick(figure: f64) -> String {
    let text = short(figure);
    let digits = text.trim_end_matches(['k', 'M']);
    let kept = if digits.contains('.') { digits.trim_end_matches('0') } else { digits };
    format!("{}{}", kept.trim_end_matches('.'), &text[digits.len()..])
}

/// A figure in little room: beyond five digits, three are enough.
pub(super) fn short(figure: f64) -> String {
    let (unit, suffix) = match figure {
        _ if figure >= 1e6 => (1e6, "M"),
        _ if figure >= 1e5 => (1e3, "k"),
        _ => return number(figure),
    };
    format!("{}{suffix}", number(figure / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(figures: &[f64]) -> Vec<String> {
        Scale::of(figures, &[]).lines().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn neighbours_share_a_linear_axis() {
        assert_eq!(labels(&[10.0, 55.0]), ["0", "20", "40"]);
        assert_eq!(labels(&[0.4, 1.9]), ["0", "0.5", "1", "1.5"]);
        assert!((Scale::of(&[10.0, 50.0], &[0.1]).place(25.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn figures_far_apart_get_a_logarithmic_one() {
        assert_eq!(labels(&[30.0, 20_000.0]), ["10", "100", "1000", "10000"]);
        let scale = Scale::of(&[1.0, 1000.0], &[]);
        assert_eq!(scale, Scale::Logarithmic { least: 0.1, most: 1000.0 });
        assert!((scale.place(10.0) - 0.5).abs() < 1e-9);
        assert!(scale.place(0.0) == 0.0 && scale.place(1000.0) == 1.0);
    }

    #[test]
    fn long_figures_are_short() {
        let texts = [9.5, 12_345.0, 461_094.0, 10_211_128.0].map(short);
        assert_eq!(texts, ["9.50", "12345", "461k", "10.2M"]);
        assert_eq!([0.5, 2000.0, 200_000.0, 1e7].map(tick), ["0.5", "2000", "200k", "10M"]);
    }

    #[test]
    fn nothing_at_all_has_an_axis() {
        assert_eq!(Scale::of(&[], &[]), Scale::Linear { most: 1.0 });
    }
}
