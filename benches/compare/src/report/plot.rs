//! A plot of lines as SVG: sizes to the right, growing by factors; costs upwards.

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 50.0;
const COLOURS: &[&str] = &[
    "#1b6ca8", "#c0392b", "#27864a", "#8e44ad", "#d68910", "#148f8f", "#7b5a3c", "#5d6d7e",
    "#d1478c", "#6c7a00", "#2c3e90",
];

/// A line: its name and its points.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Draws lines with the titles of both axes.
pub fn draw(lines: &[Line], across: &str, upwards: &str) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let least = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let most = points().map(|point| point.0).fold(0.0, f64::max);
    let top = points().map(|point| point.1).fold(1.0, f64::max).ceil();
    let wide = (most / least).ln().max(f64::MIN_POSITIVE);
    let x = |size: f64| LEFT + (size / least).ln() / wide * (WIDTH - LEFT - RIGHT);
    let y = |cost: f64| HEIGHT - BOTTOM - cost / top * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let mut add = |element: String| {
        svg.push_str(&element);
        svg.push('\n');
    };
    for step in 0..=top as u32 {
        let at = y(f64::from(step));
        add(format!(
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{step}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0
        ));
    }
    let mut sizes: Vec<f64> = points().map(|point| point.0).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    for size in sizes {
        add(format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(size),
            HEIGHT - BOTTOM + 18.0,
            super::numbers::short(size)
        ));
    }
    add(format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{across}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 12.0
    ));
    add(format!("<text x=\"{LEFT}\" y=\"18\">{upwards}</text>"));
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let path: Vec<String> = line
            .points
            .iter()
            .map(|(size, cost)| format!("{:.1},{:.1}", x(*size), y(*cost)))
            .collect();
        let label = TOP + 16.0 * number as f64;
        let side = WIDTH - RIGHT + 14.0;
        add(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <line x1=\"{side}\" y1=\"{label}\" x2=\"{:.1}\" y2=\"{label}\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            path.join(" "),
            side + 18.0,
            side + 24.0,
            label + 4.0,
            line.name
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_drawn_within_the_plot() {
        let line = |name: &str, points: &[(f64, f64)]| Line {
            name: name.to_owned(),
            points: points.to_vec(),
        };
        let svg = draw(
            &[
                line("one", &[(10.0, 1.0), (100.0, 2.0)]),
                line("two", &[(10.0, 1.0), (100.0, 1.2)]),
            ],
            "rows",
            "cost",
        );
        assert_eq!(svg.matches("<polyline").count(), 2);
        // The left end at 1 of 2, the right end at the top.
        assert!(svg.contains("points=\"60.0,190.0 490.0,30.0\""), "{svg}");
        assert!(svg.ends_with("</svg>\n"));
    }
}
