//! The colours of heaps, the same in terminals and pictures.

/// A colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rgb(pub(crate) u8, pub(crate) u8, pub(crate) u8);

pub(crate) const LIVE: Rgb = Rgb(0x3b, 0x6f, 0xb6);
pub(crate) const UNPUBLISHED: Rgb = Rgb(0xf0, 0x9a, 0x20);
pub(crate) const OF_DEAD: Rgb = Rgb(0xd4, 0x2f, 0x3c);
pub(crate) const FREE: Rgb = Rgb(0xe6, 0xeb, 0xf1);
pub(crate) const TAIL: Rgb = Rgb(0xb9, 0xc2, 0xcd);
pub(crate) const SHARED: Rgb = Rgb(0x8a, 0x94, 0xa3);
pub(crate) const NOBODYS: Rgb = Rgb(0x55, 0x5e, 0x6b);
pub(crate) const TEXT: Rgb = Rgb(0x24, 0x2a, 0x31);
pub(crate) const FAINT_TEXT: Rgb = Rgb(0x6e, 0x77, 0x81);
pub(crate) const PAPER: Rgb = Rgb(0xff, 0xff, 0xff);

/// Colours that are told apart by most people, also by those who see few.
const DISTINCT: [Rgb; 8] = [
    Rgb(0x4e, 0x79, 0xa7),
    Rgb(0xf2, 0x8e, 0x2b),
    Rgb(0x59, 0xa1, 0x4f),
    Rgb(0xb0, 0x7a, 0xa1),
    Rgb(0xd9, 0xb4, 0x2c),
    Rgb(0x4f, 0xa8, 0xa2),
    Rgb(0xe3, 0x6f, 0x85),
    Rgb(0x9c, 0x75, 0x5f),
];

/// From dark to bright, through hues: the scale "viridis".
const SCALE: [Rgb; 6] = [
    Rgb(0x44, 0x01, 0x54),
    Rgb(0x41, 0x44, 0x87),
    Rgb(0x2a, 0x78, 0x8e),
    Rgb(0x22, 0xa8, 0x84),
    Rgb(0x7a, 0xd1, 0x51),
    Rgb(0xfd, 0xe7, 0x25),
];

/// The colour of one of many; they come again after a while.
pub(crate) fn distinct(number: usize) -> Rgb {
    DISTINCT[number % DISTINCT.len()]
}

/// The colour of step `number` of `count` on a scale.
pub(crate) fn on_scale(number: usize, count: usize) -> Rgb {
    let steps = (SCALE.len() - 1) as f64;
    let place = number as f64 / count.saturating_sub(1).max(1) as f64 * steps;
    let below = (place as usize).min(SCALE.len() - 2);
    let share = (place - below as f64).clamp(0.0, 1.0);
    mix(&[(SCALE[below], 1.0 - share), (SCALE[below + 1], share)])
}

/// Colours mixed by weight; paper if nothing weighs anything.
pub(crate) fn mix(parts: &[(Rgb, f64)]) -> Rgb {
    let whole: f64 = parts.iter().map(|(_, weight)| weight).sum();
    if whole <= 0.0 {
        return PAPER;
    }
    let channel = |of: fn(Rgb) -> u8| {
        let sum: f64 = parts.iter().map(|&(colour, weight)| f64::from(of(colour)) * weight).sum();
        (sum / whole).round() as u8
    };
    Rgb(channel(|colour| colour.0), channel(|colour| colour.1), channel(|colour| colour.2))
}

impl Rgb {
    /// The nearest colour of the 6 x 6 x 6 that terminals with 256 colours have.
    pub(crate) fn of_256(self) -> u8 {
        let level = |channel: u8| match channel {
            0..48 => 0,
            48..115 => 1,
            _ => (channel - 35) / 40,
        };
        16 + 36 * level(self.0) + 6 * level(self.1) + level(self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_begin_and_end_where_they_should() {
        assert_eq!((on_scale(0, 9), on_scale(8, 9)), (SCALE[0], SCALE[5]));
        assert_eq!(on_scale(0, 1), SCALE[0]);
        assert_eq!(on_scale(7, 0), SCALE[5], "beyond the end");
    }

    #[test]
    fn colours_mix_by_weight() {
        let (black, white) = (Rgb(0, 0, 0), Rgb(255, 255, 255));
        assert_eq!(mix(&[(black, 1.0), (white, 1.0)]), Rgb(128, 128, 128));
        assert_eq!(mix(&[(black, 0.0), (white, 3.0)]), white);
        assert_eq!(mix(&[]), PAPER);
    }

    #[test]
    fn terminals_get_the_nearest_colour() {
        assert_eq!(Rgb(0, 0, 0).of_256(), 16);
        assert_eq!(Rgb(255, 255, 255).of_256(), 231);
        assert_eq!(Rgb(255, 0, 0).of_256(), 196);
        assert_eq!(Rgb(0x5f, 0x87, 0xaf).of_256(), 67);
    }
}
