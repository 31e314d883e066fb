//! How bad ways are, and how processors misbehave.

use std::time::Duration;

use super::draw::Draw;
use super::fault::{Mood, StreamWeather};
use crate::fleet::Weather;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn weather(d: Duration, draw: &mut Draw) -> Weather {
    match draw.below(12) {
        5 => Weather { deaf: true, ..Weather::default() },
        0 => Weather { cut: true, late: draw.pick(&[0, 2]), ..Weather::default() },
        6..=10 => Weather { flaps: d * draw.pick(&[8, 11, 15, 20]) / 10, ..Weather::default() },
        1 => Weather { reply_lost: 3, ..Weather::default() },
        2 => Weather { late: 5, ..Weather::default() },
        3 => Weather { throttled: 2, ..Weather::default() },
        4 => Weather { refused: 3, ..Weather::default() },
        _ => Weather { reply_lost: 8, late: 12, throttled: 8, refused: 8, ..Weather::default() },
    }
}

pub(super) fn stream_weather(draw: &mut Draw) -> StreamWeather {
    match draw.below(6) {
        0 => StreamWeather { cut: true, ..StreamWeather::default() },
        1 => StreamWeather { throttled: 2, ..StreamWeather::default() },
        2 => StreamWeather { failing: 2, ..StreamWeather::default() },
        3 => StreamWeather { unknown: 4, ..StreamWeather::default() },
        4 => StreamWeather { expired: 3, corrupt: 5, ..StreamWeather::default() },
        _ => StreamWeather { throttled: 8, failing: 8, unknown: 15, expired: 10, corrupt: 10, cut: false },
    }
}

pub(super) fn mood(draw: &mut Draw) -> Mood {
    match draw.below(5) {
        0 => Mood::Slow(draw.time(SECOND..=10 * SECOND)),
        1 => Mood::Fails(draw.pick(&[1, 2, 5])),
        2 => Mood::Panics(draw.pick(&[2, 5])),
        3 => Mood::Hangs(draw.time(30 * SECOND..=6 * MINUTE)),
        _ => Mood::Fails(3),
    }
}
