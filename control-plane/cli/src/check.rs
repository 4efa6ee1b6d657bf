//! `weft check PATH…`: every problem in the YAML, before it is saved where it counts. Without a path it looks at a cluster.
//!
//! The same reading, joining and checking as in the control plane, so that what is fine here goes live there.

use crate::files;
use crate::install::preflight::Stage;
use crate::install::{self, ClusterArgs};
use crate::look::{BAD, BOLD, DIM, GOOD, WARN, paint, print};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use weft_config::{Parsed, Problem};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Find every problem: in YAML, or, without files, in a cluster
///
/// All files are checked together, as the control plane reads them, so that a route to a Service that
/// is in none of them is found. Without files: whether Weft works in the cluster that kubectl talks to,
/// or (--pre) whether that cluster can take it. Exits with 1 if there are errors (with --strict: or warnings).
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  weft check manifests
  weft check manifests/gateway my-route.yaml --strict
  weft check manifests -o json | jq '.problems[].message'
  weft check --pre                # before `weft install`
  weft check                      # after it")]
pub(crate) struct CheckArgs {
    /// Files, and directories with all YAML below them.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Whether the cluster can take Weft, before it is installed.
    #[arg(long, conflicts_with = "paths")]
    pre: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Warnings fail too.
    #[arg(long)]
    strict: bool,
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(crate) fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    if args.paths.is_empty() {
        let stage = if args.pre { Stage::Before } else { Stage::After };
        return install::check(&args.cluster, stage, args.output);
    }
    let mut sources = BTreeMap::new();
    for path in &args.paths {
        for file in files::find(path)?.into_keys() {
            sources.insert(file.display().to_string(), files::text(&file)?);
        }
    }
    let report = Report::of(&sources);
    match args.output {
        Output::Text => print(report.text(&sources))?,
        Output::Json => print(format_args!("{}\n", serde_json::to_string_pretty(&report)?))?,
    }
    let failed = report.errors > 0 || args.strict && report.warnings > 0;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[derive(Serialize)]
struct Report {
    problems: Vec<Problem>,
    files: usize,
    objects: usize,
    errors: usize,
    warnings: usize,
}

impl Report {
    fn of(sources: &BTreeMap<String, String>) -> Report {
        let parsed: Vec<(&str, Parsed)> =
            sources.iter().map(|(name, text)| (name.as_str(), weft_config::read(name, text))).collect();
        let (world, merged) = weft_config::merge(parsed.iter().map(|(name, file)| (*name, file)));
        let mut problems: Vec<Problem> =
            parsed.iter().flat_map(|(_, file)| file.problems.clone()).chain(merged).collect();
        problems.extend(weft_config::validate(&world));
        problems.sort_by(|a, b| a.place.cmp(&b.place).then_with(|| a.path.cmp(&b.path)));
        let errors = problems.iter().filter(|problem| problem.is_error()).count();
        let warnings = problems.len() - errors;
        Report { problems, files: sources.len(), objects: world.objects.len(), errors, warnings }
    }

    /// Each problem with its line, then a summary.
    fn text(&self, sources: &BTreeMap<String, String>) -> String {
        let mut out = String::new();
        for problem in &self.problems {
            let text = sources.get(&*problem.place.file).map(String::as_str).unwrap_or_default();
            let _ = writeln!(out, "{}", excerpt(problem, text));
        }
        let found = format!(
            "{} and {} in {}",
            count(self.errors, "error"),
            count(self.warnings, "warning"),
            count(self.files, "file")
        );
        let _ = match (self.files, self.errors + self.warnings) {
            (0, _) => writeln!(out, "{} no YAML files there", paint(WARN, "!")),
            (_, 0) => {
                let whole =
                    format!("{} in {}, nothing wrong", count(self.objects, "object"), count(self.files, "file"));
                writeln!(out, "{} {whole}", paint(GOOD, "✓"))
            }
            _ => writeln!(out, "{} {found}", if self.errors > 0 { paint(BAD, "✗") } else { paint(WARN, "!") }),
        };
        out
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// As compilers show it: what, where, the line with a caret, what to write instead.
fn excerpt(problem: &Problem, text: &str) -> String {
    let mut out = String::new();
    let (word, style) = if problem.is_error() { ("error", BAD) } else { ("warning", WARN) };
    let _ = writeln!(out, "{}{} {}", paint(style, word), paint(BOLD, ":"), paint(BOLD, &problem.message));
    let place = &problem.place;
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    let bar = paint(DIM, "|");
    let object = problem.object.as_ref().map(|key| format!("  {key}")).unwrap_or_default();
    let path = if problem.path.is_empty() { String::new() } else { format!(" {}", problem.path) };
    let _ = writeln!(out, "{margin}{} {place}{}", paint(DIM, "-->"), paint(DIM, format!("{object}{path}")));
    if let Some((line, column)) = visible(text, place.line, place.column) {
        let _ = writeln!(out, "{margin} {bar}");
        let _ = writeln!(out, "{} {bar} {line}", paint(DIM, &number));
        let _ = writeln!(out, "{margin} {bar} {}{}", " ".repeat(column), paint(style, "^"));
    }
    if let Some(hint) = &problem.hint {
        let _ = writeln!(out, "{margin} {} {hint}", paint(DIM, "= hint:"));
    }
    out
}

/// The part of a line that fits a screen, and where in it the column is. Control characters do not reach the terminal.
fn visible(text: &str, line: u32, column: u32) -> Option<(String, usize)> {
    const WIDTH: usize = 120;
    let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    let column = usize::try_from(column).ok()?.saturating_sub(1);
    let start = if column > WIDTH - 20 { column - WIDTH / 2 } else { 0 };
    let shown = line.chars().skip(start).take(WIDTH).map(|c| if c.is_control() { ' ' } else { c }).collect();
    Some((shown, column - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> (Report, String) {
        let sources = BTreeMap::from([("shop.yaml".to_owned(), text.to_owned())]);
        let report = Report::of(&sources);
        let text = anstream::adapter::strip_str(&report.text(&sources)).to_string();
        (report, text)
    }

    #[test]
    fn a_problem_is_shown_at_its_line() {
        let (report, text) = report(
            "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: front }
spec:
  gatewayClassName: weft
  listeners: [{ name: http, protocol: HTTP, port: ninety }]
",
        );
        assert_eq!((report.errors, report.objects), (1, 0));
        assert!(text.starts_with("error: "), "{text}");
        assert!(text.contains(" --> shop.yaml:6:51"), "{text}");
        let source = "\n6 |   listeners: [{ name: http, protocol: HTTP, port: ninety }]\n";
        let caret = format!("  | {}^\n", " ".repeat(50));
        assert!(text.contains(source) && text.contains(&caret), "{text}");
        assert!(text.ends_with("✗ 1 error and 0 warnings in 1 file\n"), "{text}");
    }

    #[test]
    fn nothing_wrong_is_one_line() {
        let (report, text) = report("apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n");
        assert_eq!((report.errors, report.warnings, text.as_str()), (0, 0, "✓ 1 object in 1 file, nothing wrong\n"));
    }

    #[test]
    fn programs_get_every_field() {
        let (report, _) = report("apiVersion: v1\nkind: Servce\nmetadata: { name: order }\n");
        let json = serde_json::to_value(&report).unwrap();
        let problem = &json["problems"][0];
        assert_eq!((problem["file"].as_str(), problem["line"].as_u64()), (Some("shop.yaml"), Some(2)), "{json}");
        assert!(problem["message"].is_string() && problem["severity"].is_string(), "{json}");
    }

    #[test]
    fn a_long_line_is_cut_around_its_column_and_stays_printable() {
        let text = format!("{}X\u{1b}[31m{}", "a".repeat(300), "b".repeat(300));
        let (line, column) = visible(&text, 1, 301).unwrap();
        assert_eq!(line.chars().count(), 120);
        assert_eq!(line.chars().nth(column), Some('X'));
        assert!(!line.contains('\u{1b}'));
        assert_eq!(visible("one", 2, 1), None);
    }
}
