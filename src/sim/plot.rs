//! Reports as pictures: SVG files in a directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use plotters::chart::MeshStyle;
use plotters::coord::Shift;
use plotters::coord::combinators::IntoLogRange;
use plotters::coord::ranged1d::{IntoSegmentedCoord, SegmentValue, ValueFormatter};
use plotters::prelude::*;
use thiserror::Error;

use super::report::{BucketFill, Joiners, Moment, Report};
use super::theory::IdealHops;

/// Why there is no picture.
#[derive(Debug, Error)]
pub enum PlotError {
    /// There is no such directory, and none can be made.
    #[error("cannot use {path} as the directory for plots: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write the plot {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Mean hops by nodes of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Growth {
    /// Whose they are.
    pub of: GrowthOf,
    /// Concurrent requests of a lookup: curves of one alpha have one colour.
    pub alpha: usize,
    /// Nodes, and mean hops.
    pub points: Vec<(usize, f64)>,
}

/// Whose mean hops a curve shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrowthOf {
    /// The idealised lookup's, as a line.
    Theory,
    /// Those of the literature.
    Published,
    /// The simulation's, where buckets are a uniform sample.
    Uniform,
    /// The simulation's, where buckets are spread over their range.
    Diverse,
}

/// Makes the directory if it is not there, and tries whether a file can be written in it.
///
/// # Errors
/// If not, with the path and the reason.
pub fn check(dir: &Path) -> Result<(), PlotError> {
    fs::create_dir_all(dir).map_err(|source| PlotError::Directory { path: dir.to_owned(), source })?;
    let path = dir.join(format!(".kadnode-{}", std::process::id()));
    let tried = fs::write(&path, []).and_then(|()| fs::remove_file(&path));
    // The file that will be missed is a plot, not the one of this trial.
    tried.map_err(|source| PlotError::File { path: dir.join(HOPS), source })
}

/// Writes what the report has figures for into the directory, and returns the files:
///
/// - `hops.svg`, the distribution of hops, with that of `theory` drawn in;
/// - `tables.svg`, how full the buckets are at the end;
/// - `course.svg`, what share of the lookups succeeded in the course of time;
/// - `joiners.svg`, what share of the joiners was found, by age.
///
/// # Errors
/// When a file cannot be written, with its path and the reason.
pub fn write(dir: &Path, report: &Report, theory: Option<&IdealHops>) -> Result<Vec<PathBuf>, PlotError> {
    let mut written = Vec::new();
    if !report.hop_shares.is_empty() {
        written.push(hops(dir, report, theory)?);
    }
    if !report.census.buckets.is_empty() {
        written.push(tables(dir, report)?);
    }
    let moments: Vec<Moment> = report.moments.iter().copied().filter(|moment| moment.lookups > 0).collect();
    if moments.len() >= 2 {
        written.push(course(dir, report, &moments)?);
    }
    if let Some(joiners) = report.joiners.as_ref().filter(|joiners| !joiners.found.is_empty()) {
        written.push(joined(dir, report, joiners)?);
    }
    Ok(written)
}

/// Writes `growth.svg`, mean hops against the nodes of the network, into the directory, and returns the file.
///
/// # Errors
/// When the file cannot be written, with its path and the reason.
pub fn write_growth(dir: &Path, curves: &[Growth]) -> Result<PathBuf, PlotError> {
    let keys: Vec<Key> = curves.iter().map(Growth::key).collect();
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let most = points().map(|(nodes, _)| *nodes).max().unwrap_or(10) as f64;
    let least = points().map(|(nodes, _)| *nodes).min().unwrap_or(1) as f64;
    let top = points().map(|(_, hops)| *hops).fold(0.5, f64::max) * 1.08;
    page(dir, "growth.svg", "Mean hops of a lookup by the size of the network", "", &keys, |area| {
        let nodes = (least / 1.5..most * 1.5).log_scale();
        let mut chart = chart(area).build_cartesian_2d(nodes, 0.0..top)?;
        let mut mesh = chart.configure_mesh();
        styled(&mut mesh, "nodes of the network", "mean hops");
        mesh.x_labels(8).y_labels(8);
        let power = |nodes: &f64| {
            let log = nodes.log10();
            if (log - log.round()).abs() < 1e-6 { thousands(nodes.round() as usize) } else { String::new() }
        };
        mesh.x_label_formatter(&power).y_label_formatter(&|hops| format!("{hops:.1}")).draw()?;
        for (curve, key) in curves.iter().zip(&keys) {
            let points: Vec<(f64, f64)> = curve.points.iter().map(|(nodes, hops)| (*nodes as f64, *hops)).collect();
            match key.mark {
                Mark::Line => {
                    chart.draw_series(LineSeries::new(points, key.colour.stroke_width(2)))?;
                }
                Mark::Dot | Mark::Bar => {
                    chart.draw_series(points.into_iter().map(|at| Circle::new(at, 5, key.colour.filled())))?;
                }
                Mark::Triangle => {
                    chart.draw_series(points.into_iter().map(|at| TriangleMarker::new(at, 7, key.colour.filled())))?;
                }
                Mark::Cross | Mark::Outline => {
                    let style = key.colour.stroke_width(2);
                    chart.draw_series(points.into_iter().map(|at| Cross::new(at, 7, style)))?;
                }
            }
        }
        Ok(())
    })
}

const HOPS: &str = "hops.svg";

/// Width and height of a picture, in pixels.
const SIZE: (u32, u32) = (900, 560);

// The colours of Okabe and Ito 2008, which the colour-blind can tell apart.
const BLUE: RGBColor = RGBColor(0, 114, 178);
const SKY: RGBColor = RGBColor(86, 180, 233);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const VERMILION: RGBColor = RGBColor(213, 94, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const PURPLE: RGBColor = RGBColor(204, 121, 167);
const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(225, 225, 225);

const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// What an entry of the legend looks like.
#[derive(Clone, Copy)]
enum Mark {
    Line,
    Dot,
    Triangle,
    Cross,
    Bar,
    Outline,
}

/// An entry of the legend.
struct Key {
    mark: Mark,
    colour: RGBColor,
    text: String,
}

impl Key {
    fn new(mark: Mark, colour: RGBColor, text: impl Into<String>) -> Self {
        Self { mark, colour, text: text.into() }
    }
}

impl Growth {
    fn key(&self) -> Key {
        let colour = match self.alpha {
            1 => VERMILION,
            3 => BLUE,
            2 => GREEN,
            _ => PURPLE,
        };
        let (mark, colour, name) = match self.of {
            GrowthOf::Theory => (Mark::Line, colour, "theory"),
            GrowthOf::Published => (Mark::Cross, INK, "Roos et al. 2015"),
            GrowthOf::Uniform => (Mark::Dot, colour, "uniform buckets"),
            GrowthOf::Diverse => (Mark::Triangle, colour, "diverse buckets"),
        };
        Key::new(mark, colour, format!("{name}, alpha {}", self.alpha))
    }
}

fn hops(dir: &Path, report: &Report, theory: Option<&IdealHops>) -> Result<PathBuf, PlotError> {
    let percent = |shares: &[f64]| shares.iter().map(|share| 100.0 * share).collect::<Vec<f64>>();
    let (simulated, ideal) = (percent(&report.hop_shares), percent(theory.map_or(&[], |theory| &theory.shares)));
    // Of theory's tail only what can be seen.
    let seen = ideal.iter().rposition(|percent| *percent >= 0.1).map_or(0, |last| last + 1);
    let ideal = &ideal[..seen.max(simulated.len()).min(ideal.len())];
    let columns = simulated.len().max(ideal.len()).max(2) as u32;
    let top = simulated.iter().chain(ideal).copied().fold(1.0, f64::max) * 1.08;

    let Report { nodes, lookups, hops, .. } = report;
    let mut subtitle = format!("{} nodes, {} lookups", thousands(*nodes), thousands(*lookups));
    subtitle += &format!("; mean {:.3} ± {:.3}", hops.mean, hops.se);
    let mut keys = vec![Key::new(Mark::Bar, SKY, "simulated")];
    if let Some(theory) = theory {
        subtitle += &format!(", in theory {:.3}", theory.mean);
        keys.push(Key::new(Mark::Dot, VERMILION, "in theory (uniform buckets, everybody alive)"));
    }
    page(dir, HOPS, "Hops of a lookup", &subtitle, &keys, |area| {
        let mut chart = chart(area).build_cartesian_2d((0..columns - 1).into_segmented(), 0.0..top)?;
        let mut mesh = chart.configure_mesh();
        styled(&mut mesh, "hops to the nearest node (0: it was in the asker's table)", "share of the lookups, %");
        mesh.disable_x_mesh().x_labels(20).y_labels(8).x_label_formatter(&centre).y_label_formatter(&number).draw()?;
        chart.draw_series(simulated.iter().zip(0..).map(|(percent, hops)| {
            let corners = [(SegmentValue::Exact(hops), 0.0), (SegmentValue::Exact(hops + 1), *percent)];
            let mut bar = Rectangle::new(corners, SKY.filled());
            let margin = SIZE.0 / columns / 6;
            bar.set_margin(0, 0, margin, margin);
            bar
        }))?;
        let points = || ideal.iter().zip(0..).map(|(percent, hops)| (SegmentValue::CenterOf(hops), *percent));
        chart.draw_series(LineSeries::new(points(), VERMILION.stroke_width(2)))?;
        chart.draw_series(points().map(|at| Circle::new(at, 5, VERMILION.filled())))?;
        Ok(())
    })
}

fn tables(dir: &Path, report: &Report) -> Result<PathBuf, PlotError> {
    let census = &report.census;
    // Far ones first, which stand on the left, as in a table.
    let column = |bucket: &BucketFill| -i32::from(bucket.log_distance);
    let first = census.buckets.iter().map(column).min().unwrap_or(-256);
    let last = census.buckets.iter().map(column).max().unwrap_or(-256).max(first + 1);
    let top = census.buckets.iter().map(|bucket| bucket.possible.max(bucket.members)).fold(1.0, f64::max) * 1.08;

    let subtitle = format!(
        "{} nodes with {:.0} entries each; {:.1} % of the entries are stale",
        thousands(census.running),
        census.entries.mean,
        100.0 * census.stale
    );
    let keys = [
        Key::new(Mark::Bar, SKY, "members, mean over all tables"),
        Key::new(Mark::Outline, INK, "nodes that there are for the bucket, at most k"),
    ];
    page(dir, "tables.svg", "How full the buckets are", &subtitle, &keys, |area| {
        let mut chart = chart(area).build_cartesian_2d((first..last).into_segmented(), 0.0..top)?;
        let mut mesh = chart.configure_mesh();
        styled(&mut mesh, "log distance of the bucket", "nodes");
        mesh.disable_x_mesh().x_labels(16).y_labels(9).y_label_formatter(&number);
        mesh.x_label_formatter(&|column| match column {
            SegmentValue::CenterOf(column) | SegmentValue::Exact(column) => (-column).to_string(),
            SegmentValue::Last => String::new(),
        });
        mesh.draw()?;
        let margin = SIZE.0 / (last - first + 1) as u32 / 7;
        let bar = |bucket: &BucketFill, height: f64, style: ShapeStyle| {
            let at = column(bucket);
            let mut bar = Rectangle::new([(SegmentValue::Exact(at), 0.0), (right_of(at, last), height)], style);
            bar.set_margin(0, 0, margin, margin);
            bar
        };
        chart.draw_series(census.buckets.iter().map(|bucket| bar(bucket, bucket.members, SKY.filled())))?;
        chart.draw_series(census.buckets.iter().map(|bucket| bar(bucket, bucket.possible, INK.stroke_width(1))))?;
        Ok(())
    })
}

fn course(dir: &Path, report: &Report, moments: &[Moment]) -> Result<PathBuf, PlotError> {
    let last = moments.iter().map(|moment| moment.seconds).fold(0.0, f64::max);
    let (unit, name) = unit_of(last);
    let least = moments.iter().map(|moment| moment.found_all.min(moment.found_closest)).fold(1.0, f64::min);
    let bottom = if least < 0.6 { 0.0 } else { (least * 10.0 - 0.5).floor() * 10.0 };
    let Report { nodes, lookups, found_closest, found_all, .. } = report;
    let subtitle = format!(
        "{} nodes, {} lookups; {:.1} % found the nearest node, {:.1} % all of the nearest",
        thousands(*nodes),
        thousands(*lookups),
        100.0 * found_closest,
        100.0 * found_all
    );
    // The one that is never the higher is drawn first.
    let keys = [
        Key::new(Mark::Line, ORANGE, "found all of the nearest nodes"),
        Key::new(Mark::Line, BLUE, "found the nearest node"),
    ];
    let shares: [fn(&Moment) -> f64; 2] = [|moment| moment.found_all, |moment| moment.found_closest];
    page(dir, "course.svg", "Lookups in the course of time", &subtitle, &keys, |area| {
        let mut chart = chart(area).build_cartesian_2d(0.0..last / unit, bottom..101.0)?;
        let mut mesh = chart.configure_mesh();
        let x = format!("{name} since the lookups began");
        styled(&mut mesh, &x, "share of the lookups, %");
        mesh.x_labels(12).y_labels(11).x_label_formatter(&number).y_label_formatter(&number).draw()?;
        for (Key { colour, .. }, share) in keys.iter().zip(shares) {
            let points = || moments.iter().map(|moment| (moment.seconds / unit, 100.0 * share(moment)));
            chart.draw_series(LineSeries::new(points(), colour.stroke_width(2)))?;
            if moments.len() <= 60 {
                chart.draw_series(points().map(|at| Circle::new(at, 3, colour.filled())))?;
            }
        }
        Ok(())
    })
}

fn joined(dir: &Path, report: &Report, joiners: &Joiners) -> Result<PathBuf, PlotError> {
    let last = joiners.found.iter().map(|(seconds, _)| *seconds).fold(1.0, f64::max);
    let (unit, name) = unit_of(last);
    let mut subtitle = format!("{} nodes; ", thousands(report.nodes));
    subtitle += &match joiners.seconds_to_95 {
        Some(seconds) => format!("95 % are found {} {name} after they started", number(&(seconds / unit))),
        None => "95 % were not reached".to_owned(),
    };
    let keys = [Key::new(Mark::Line, BLUE, "found by a lookup for their key"), Key::new(Mark::Line, VERMILION, "95 %")];
    page(dir, "joiners.svg", "How soon nodes that join are found", &subtitle, &keys, |area| {
        let mut chart = chart(area).build_cartesian_2d(0.0..last / unit * 1.02, 0.0..101.0)?;
        let mut mesh = chart.configure_mesh();
        let x = format!("{name} since joiner and bootnodes started");
        styled(&mut mesh, &x, "share of the lookups, %");
        mesh.x_labels(12).y_labels(11).x_label_formatter(&number).y_label_formatter(&number).draw()?;
        let line = [(0.0, 95.0), (last / unit * 1.02, 95.0)];
        chart.draw_series(LineSeries::new(line, VERMILION.stroke_width(1)))?;
        let points = || joiners.found.iter().map(|(seconds, share)| (seconds / unit, 100.0 * share));
        chart.draw_series(LineSeries::new(points(), BLUE.stroke_width(2)))?;
        chart.draw_series(points().map(|at| Circle::new(at, 4, BLUE.filled())))?;
        Ok(())
    })
}

/// A picture with title, subtitle and legend above what `draw` draws.
fn page(
    dir: &Path,
    name: &str,
    title: &str,
    subtitle: &str,
    keys: &[Key],
    draw: impl FnOnce(&Area) -> Drawn,
) -> Result<PathBuf, PlotError> {
    let path = dir.join(name);
    let mut svg = String::new();
    let drawn = draw_page(&mut svg, title, subtitle, keys, draw);
    let written = match drawn {
        Ok(()) => fs::write(&path, svg),
        Err(error) => Err(io::Error::other(error.to_string())),
    };
    written.map(|()| path.clone()).map_err(|source| PlotError::File { path, source })
}

fn draw_page(svg: &mut String, title: &str, subtitle: &str, keys: &[Key], draw: impl FnOnce(&Area) -> Drawn) -> Drawn {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw_text(title, &(FONT, 22).into_font().color(&INK), (LEFT, 16))?;
    let mut below = 46;
    if !subtitle.is_empty() {
        root.draw_text(subtitle, &(FONT, 15).into_font().color(&INK), (LEFT, below))?;
        below += 26;
    }
    below = legend(&root, keys, below)?;
    draw(&root.split_vertically(below + 4).1)?;
    root.present()
}

/// Where title and legend begin, in pixels from the left.
const LEFT: i32 = 24;

/// Draws the legend in rows from `top` on, and returns where it ends.
fn legend(root: &Area, keys: &[Key], top: i32) -> Result<i32, DrawingAreaErrorKind<io::Error>> {
    const ROW: i32 = 22;
    let (mut x, mut y) = (LEFT, top + ROW / 2);
    for key in keys {
        // There is no font to measure the text with; a character is about half as wide as it is high.
        let width = 34 + 7 * key.text.chars().count() as i32;
        if x > LEFT && x + width > SIZE.0 as i32 {
            (x, y) = (LEFT, y + ROW);
        }
        let colour = key.colour;
        match key.mark {
            Mark::Line => root.draw(&PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(3)))?,
            Mark::Dot => root.draw(&Circle::new((x + 10, y), 5, colour.filled()))?,
            Mark::Triangle => root.draw(&TriangleMarker::new((x + 10, y), 7, colour.filled()))?,
            Mark::Cross => root.draw(&Cross::new((x + 10, y), 6, colour.stroke_width(2)))?,
            Mark::Bar => root.draw(&Rectangle::new([(x + 2, y - 6), (x + 18, y + 6)], colour.filled()))?,
            Mark::Outline => root.draw(&Rectangle::new([(x + 2, y - 6), (x + 18, y + 6)], colour.stroke_width(1)))?,
        }
        root.draw_text(&key.text, &(FONT, 14).into_font().color(&INK), (x + 26, y - 5))?;
        x += width + 12;
    }
    Ok(y + ROW / 2)
}

fn chart<'a, 'b>(area: &'a Area<'b>) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut chart = ChartBuilder::on(area);
    chart.margin(10).margin_right(24).x_label_area_size(52).y_label_area_size(64);
    chart
}

/// Names of the axes and the look of mesh and labels, the same in all pictures.
fn styled<'b, X, Y>(mesh: &mut MeshStyle<'_, '_, X, Y, SVGBackend<'b>>, x: &str, y: &str)
where
    X: Ranged + ValueFormatter<X::ValueType>,
    Y: Ranged + ValueFormatter<Y::ValueType>,
{
    mesh.x_desc(x)
        .y_desc(y)
        .axis_desc_style((FONT, 15).into_font().color(&INK))
        .label_style((FONT, 14).into_font().color(&INK))
        .axis_style(INK)
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .max_light_lines(1);
}

/// The left side of the column after `at`; after the last one there is none.
fn right_of(at: i32, last: i32) -> SegmentValue<i32> {
    if at >= last { SegmentValue::Last } else { SegmentValue::Exact(at + 1) }
}

fn centre(column: &SegmentValue<u32>) -> String {
    match column {
        SegmentValue::CenterOf(value) | SegmentValue::Exact(value) => value.to_string(),
        SegmentValue::Last => String::new(),
    }
}

/// With at most one decimal.
fn number(value: &f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    if rounded.fract() == 0.0 { format!("{rounded:.0}") } else { format!("{rounded:.1}") }
}

/// With a comma between groups of three digits.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The unit for times up to this many seconds: its length in seconds, and its name.
fn unit_of(seconds: f64) -> (f64, &'static str) {
    match seconds {
        ..600.0 => (1.0, "seconds"),
        600.0..10_800.0 => (60.0, "minutes"),
        _ => (3600.0, "hours"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::report::{Census, Summary};
    use crate::sim::theory::{Ideal, PUBLISHED};
    use crate::sim::{Latency, Setup};

    fn report() -> Report {
        let hop_shares = vec![0.181, 0.696, 0.121, 0.002];
        let hops = Summary { mean: 0.944, se: 0.0041, p50: 1.0, p90: 2.0, p99: 2.0, max: 3.0 };
        let buckets = (240..=256).rev().map(|log_distance| {
            let possible = (1000.0 / f64::powi(2.0, 257 - i32::from(log_distance))).min(16.0);
            BucketFill { log_distance, members: possible * 0.9, possible }
        });
        let census = Census {
            running: 1000,
            entries: Summary { mean: 106.0, ..hops },
            buckets: buckets.collect(),
            stale: 0.021,
            connected: 1.0,
        };
        let moments = (0..24u32).map(|n| {
            let found = if (6..12).contains(&n) { 0.5 + 0.08 * f64::from(n - 6) } else { 1.0 };
            Moment {
                seconds: 300.0 * (f64::from(n) + 0.5),
                lookups: usize::from(n != 3) * 40,
                found_closest: found,
                found_all: found * 0.97,
                hops: 1.0,
            }
        });
        let found = vec![(1.0, 0.41), (2.0, 0.72), (5.0, 0.93), (10.0, 0.97), (30.0, 1.0), (60.0, 1.0)];
        let joiners = Some(Joiners { found, seconds_to_95: Some(10.0) });
        let mut report = Setup { nodes: 2, lookups: 1, ..Setup::default() }.run(|_, _| ()).unwrap();
        report.moments = moments.collect();
        Report {
            nodes: 1000,
            lookups: 20_000,
            found_closest: 0.93,
            found_all: 0.91,
            hops,
            hop_shares,
            census,
            joiners,
            ..report
        }
    }

    fn names(written: &[PathBuf]) -> Vec<&str> {
        written.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect()
    }

    #[test]
    fn there_is_a_picture_for_whatever_the_report_has() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let ideal = Ideal { nodes: 1000, k: 16, alpha: 3, latency: Latency::Constant { ms: 50.0 }, bonding: true };
        let theory = ideal.hops(2000, 1);
        let mut report = report();
        let written = write(dir, &report, Some(&theory)).unwrap();
        assert_eq!(names(&written), ["hops.svg", "tables.svg", "course.svg", "joiners.svg"]);
        let svg = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        let hops = svg("hops.svg");
        assert!(
            hops.starts_with("<svg ")
                && hops.contains("1,000 nodes, 20,000 lookups; mean 0.944 ± 0.004, in theory 0.9")
        );
        // Four bars, and theory, which has no lookup of three hops; each once more in the legend.
        assert_eq!(hops.matches("fill=\"#56B4E9\"").count(), 4 + 1);
        assert_eq!(hops.matches("<circle").count(), 3 + 1);
        // Bars and outlines of 17 buckets, and the legend.
        let tables = svg("tables.svg");
        assert_eq!(tables.matches("fill=\"#56B4E9\"").count(), 17 + 1);
        // One span without a lookup is left out.
        assert_eq!(svg("course.svg").matches("<circle").count(), 2 * 23);
        assert!(svg("joiners.svg").contains("95 % are found 10 seconds after they started"));

        report.joiners = None;
        report.moments.truncate(1);
        report.census = Census::default();
        assert_eq!(names(&write(dir, &report, None).unwrap()), ["hops.svg"]);
        assert!(!svg("hops.svg").contains("theory"));
        report.hop_shares.clear();
        assert_eq!(names(&write(dir, &report, None).unwrap()), [""; 0]);
    }

    #[test]
    fn growth_is_drawn_with_a_mark_for_each_point() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let curve = |of, alpha, means: [f64; 4]| Growth {
            of,
            alpha,
            points: [100, 1_000, 10_000, 100_000].into_iter().zip(means).collect(),
        };
        let mut curves = vec![
            curve(GrowthOf::Theory, 1, [0.35, 0.90, 1.42, 1.90]),
            curve(GrowthOf::Uniform, 1, [0.35, 0.90, 1.43, 1.90]),
            curve(GrowthOf::Diverse, 1, [0.30, 0.84, 1.36, 1.82]),
            curve(GrowthOf::Theory, 3, [0.38, 0.95, 1.53, 2.04]),
            curve(GrowthOf::Uniform, 3, [0.38, 0.95, 1.53, 2.04]),
            curve(GrowthOf::Diverse, 3, [0.32, 0.89, 1.45, 1.96]),
        ];
        curves.push(Growth { of: GrowthOf::Published, alpha: 3, points: PUBLISHED.to_vec() });
        let path = write_growth(dir, &curves).unwrap();
        let svg = fs::read_to_string(path).unwrap();
        assert_eq!(svg.matches("<circle").count(), 8 + 2);
        assert!(svg.contains("100,000") && svg.contains("Roos et al. 2015, alpha 3"));
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("a/b");
        check(&inside).unwrap();
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 0, "the trial leaves nothing behind");
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let said = check(&file).unwrap_err().to_string();
        assert!(said.starts_with(&format!("cannot use {} as the directory for plots: ", file.display())), "{said}");
        let said = write(&dir.path().join("none"), &report(), None).unwrap_err().to_string();
        let path = dir.path().join("none").join("hops.svg");
        assert!(said.starts_with(&format!("cannot write the plot {}: ", path.display())), "{said}");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 12, 999, 1000, 1_234_567].map(thousands), ["0", "12", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 2.0, 2.25, 100.0].map(|value| number(&value)), ["0", "2", "2.3", "100"]);
        assert_eq!([10.0, 900.0, 21_600.0].map(unit_of), [(1.0, "seconds"), (60.0, "minutes"), (3600.0, "hours")]);
    }
}
