//! What every drawing consists of: a sheet with its name and description, a frame with axes,
//! lines, marks and a legend. One unit is about one pixel: sheets are as narrow as a phone.

use maud::{Markup, html};

use super::axis::Axis;
use super::look::{Look, Looks};

/// Where tick values are centred at the earliest and at the latest: those beyond lean inwards.
const CENTRED: [f64; 2] = [20.0, WIDTH - 18.0];

/// Width of every sheet.
pub const WIDTH: f64 = 360.0;

/// Where the data is, on a sheet.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Its edges.
    pub left: f64,
    /// Below `left` of the next sheet.
    pub right: f64,
    /// The upper edge: the smaller number.
    pub top: f64,
    /// The lower edge.
    pub bottom: f64,
}

impl Frame {
    /// Where `value` stands from left to right.
    #[must_use]
    pub fn x(&self, axis: Axis, value: f64) -> f64 {
        self.left + axis.at(value) * (self.right - self.left)
    }

    /// Where `value` stands from the lower edge upwards.
    #[must_use]
    pub fn y(&self, axis: Axis, value: f64) -> f64 {
        self.bottom - axis.at(value) * (self.bottom - self.top)
    }

    /// Lines upwards from the values of an axis from left to right, and the values.
    pub fn from_left(&self, axis: Axis, label: impl Fn(f64) -> String) -> Markup {
        html! {
            @for tick in axis.ticks() {
                @let x = number(self.x(axis, tick));
                path.grid d={ "M" (x) " " (number(self.top)) "V" (number(self.bottom)) } {}
                text.tick x=(x) y=(number(self.bottom + 15.0)) text-anchor=(anchor(self.x(axis, tick))) {
                    (label(tick))
                }
            }
        }
    }

    /// Lines to the right from the values of an axis upwards, and the values.
    pub fn upwards(&self, axis: Axis, label: impl Fn(f64) -> String) -> Markup {
        html! {
            @for tick in axis.ticks() {
                @let y = self.y(axis, tick);
                path.grid d={ "M" (number(self.left)) " " (number(y)) "H" (number(self.right)) } {}
                text.tick x=(number(self.left - 5.0)) y=(number(y + 4.0)) text-anchor="end" {
                    (label(tick))
                }
            }
        }
    }
}

/// A drawing of its own.
#[derive(Debug)]
pub struct Drawing {
    /// What is drawn.
    pub caption: String,
    /// What there is to see, in words.
    pub about: String,
    /// Of the sheet.
    pub height: f64,
    /// What is on the sheet.
    pub body: Markup,
    /// What is below it.
    pub below: Markup,
}

impl Drawing {
    /// The drawing, as part of `scenario`.
    #[must_use]
    pub fn figure(&self, scenario: &str) -> Markup {
        html! {
            figure {
                figcaption { (self.caption) }
                svg role="img" viewBox={ "0 0 " (number(WIDTH)) " " (number(self.height)) } {
                    title { (scenario) ": " (self.caption) }
                    desc { (self.about) }
                    (self.body)
                }
                (self.below)
            }
        }
    }
}

/// How a tick value at `x` is aligned: within the sheet.
fn anchor(x: f64) -> &'static str {
    match x {
        x if x < CENTRED[0] => "start",
        x if x > CENTRED[1] => "end",
        _ => "middle",
    }
}

/// A tick value: as many digits as it needs, at most three after the comma.
#[must_use]
pub fn plain(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A latency beside an axis.
#[must_use]
pub fn latency(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{} µs", plain(us)),
        us if us < 1_000_000.0 => format!("{} ms", plain(us / 1_000.0)),
        us => format!("{} s", plain(us / 1_000_000.0)),
    }
}

/// A line through `points`.
pub fn line(points: &[(f64, f64)], class: &str) -> Markup {
    let mut path = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        path.push(if index == 0 { 'M' } else { 'L' });
        path.push_str(&format!("{} {}", number(*x), number(*y)));
    }
    html! { path class={ "line " (class) } d=(path) {} }
}

/// A contestant's mark; `tip` is shown where somebody points at it.
pub fn mark(look: Look, (x, y): (f64, f64), tip: &str) -> Markup {
    html! { path class={ "mark " (look.class) } d=(look.mark.path(x, y)) { title { (tip) } } }
}

/// Who is who, below a drawing of lines; `others` are no contestants, each with its class.
pub fn legend<'a>(
    labels: impl Iterator<Item = &'a str>,
    looks: &Looks,
    others: &[(&str, &str)],
) -> Markup {
    html! {
        ul.legend {
            @for label in labels {
                @let look = looks.look(label);
                li {
                    svg viewBox="0 0 24 12" aria-hidden="true" {
                        (line(&[(1.0, 6.0), (23.0, 6.0)], &format!("{} {}", look.class, look.mark.dash())))
                        path class={ "mark " (look.class) } d=(look.mark.path(12.0, 6.0)) {}
                    }
                    (label)
                }
            }
            @for (name, class) in others {
                li {
                    svg viewBox="0 0 24 12" aria-hidden="true" {
                        (line(&[(1.0, 6.0), (23.0, 6.0)], class))
                    }
                    (name)
                }
            }
        }
    }
}

/// A coordinate with one digit after the comma, or none.
#[must_use]
pub fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_short() {
        let all = [0.0, -0.04, 12.34, 100.0].map(number);
        assert_eq!(all, ["0", "0", "12.3", "100"]);
        assert_eq!([0.1 + 0.2, 99.999, 20.0].map(plain), ["0.3", "99.999", "20"]);
        assert_eq!([5.0, 2e4, 1e6].map(latency), ["5 µs", "20 ms", "1 s"]);
    }

    #[test]
    fn what_is_drawn_is_escaped() {
        let tip = "<script>alert(1)</script>";
        let look = Looks::default().look("");
        let text = mark(look, (1.0, 2.0), tip).into_string();
        assert!(!text.contains("<script") && text.contains("&lt;script"), "{text}");
    }
}
