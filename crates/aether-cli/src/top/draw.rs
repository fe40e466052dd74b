//! Draws a reading: a head with the sums, one list, and a line with the keys. It fits 80 by 24 characters.

use aether_core::account::{KnownProcess, Standing};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, Wrap};

use super::screen::{Screen, Tab};
use super::snapshot::{Snapshot, losses, lost};
use crate::record::printable;

const KEYS: &str = "q quit   tab next list   \u{2191}\u{2193} scroll   ? help";
const HELP: &str = "\
q, Ctrl-C          quit
tab, \u{2192}, 1 to 5     the next list, or one of them
\u{2191} \u{2193} PgUp PgDn      scroll; Home and End go to the ends

Each process tells its account every few seconds. A process that has missed
three accounts is silent; one that has closed its medium has ended. Both keep
their last account for ten minutes.

offered  = delivered + lost + queued, for all inboxes of a process
lost     waves that inboxes and the outbox gave up, for whatever reason
floor    weaker waves are not received; overload raises it
open     circuit breakers that are open, of all
?        marks a process whose accounts are wrong or contradict each other

Any key closes this help.";

/// The longest text of a line; longer ones could not be read anyway.
const MOST_CHARACTERS: usize = 400;

pub(super) fn draw(frame: &mut Frame<'_>, screen: &mut Screen, snapshot: &Snapshot) {
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ]);
    let [head, sums, tabs, list, keys] = areas.areas(frame.area());
    frame.render_widget(head_line(screen, snapshot), head);
    frame.render_widget(sum_line(snapshot), sums);
    frame.render_widget(tab_line(screen.tab), tabs);
    if screen.shows_help {
        frame.render_widget(Paragraph::new(HELP).wrap(Wrap { trim: false }), list);
    } else {
        draw_list(frame, list, screen, snapshot);
    }
    frame.render_widget(Line::from(KEYS).dim(), keys);
}

fn head_line(screen: &Screen, snapshot: &Snapshot) -> Line<'static> {
    let medium = printable(&screen.medium, MOST_CHARACTERS);
    let connection = match snapshot.away {
        None => Span::from("connected").green(),
        Some(time) => {
            let text = format!("the medium is away for {} s; reconnecting", time.as_secs());
            Span::styled(text, Style::new().fg(Color::Red).add_modifier(Modifier::BOLD))
        }
    };
    Line::from(vec![Span::from("aether top  ").bold(), connection, Span::from(format!("  {medium}"))])
}

fn sum_line(snapshot: &Snapshot) -> Line<'static> {
    let present = || snapshot.processes.iter().filter(|known| known.standing == Standing::Present);
    let rate = |of: fn(&aether_core::account::Rates) -> f64| {
        present().filter_map(|known| known.rates.as_ref()).map(of).sum::<f64>()
    };
    let queued = present().fold(0_u64, |sum, known| sum.saturating_add(known.account.ledger().queued));
    let suspicious: u64 = snapshot.counts.by_reason().iter().map(|(_, accounts)| accounts).sum();
    let (offered, lost) = (rate(|rates| rates.offered), rate(|rates| rates.lost));
    let mut spans =
        vec![Span::from(format!("{} processes  {}/s offered  ", present().count(), short(offered)))];
    let lost_text = Span::from(format!("{}/s lost", short(lost)));
    spans.push(if lost > 0.0 { lost_text.red() } else { lost_text });
    spans.push(Span::from(format!("  {} queued", short(queued as f64))));
    if suspicious > 0 {
        spans.push(Span::from(format!("  {suspicious} suspicious accounts")).red());
    }
    Line::from(spans)
}

fn tab_line(shown: Tab) -> Line<'static> {
    let titles = Tab::ALL.into_iter().enumerate().flat_map(|(at, tab)| {
        let title = Span::from(format!(" {} {} ", at + 1, tab.title()));
        [if tab == shown { title.reversed() } else { title }, Span::from(" ")]
    });
    Line::from(titles.collect::<Vec<_>>())
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, screen: &mut Screen, snapshot: &Snapshot) {
    let has_head = matches!(screen.tab, Tab::Processes | Tab::Vibrators | Tab::Present);
    screen.keep_in(
        screen.rows(snapshot),
        usize::from(area.height) - usize::from(has_head).min(area.height.into()),
    );
    let (first, page) = (screen.first, screen.page);
    match screen.tab {
        Tab::Processes => {
            let rows = snapshot.processes.iter().skip(first).take(page).map(process_row);
            let head = ["process", "state", "offered/s", "lost/s", "lost", "queued", "floor", "open"];
            let widths = [8, 9, 7, 7, 7, 5, 5].map(Constraint::Length);
            table(frame, area, (&head, widths.to_vec()), rows);
        }
        Tab::Vibrators => {
            let inboxes = snapshot
                .processes
                .iter()
                .flat_map(|known| known.account.inboxes.iter().map(move |inbox| (known, inbox)));
            let rows = inboxes.skip(first).take(page).map(|(known, inbox)| {
                let ledger = &inbox.ledger;
                let cells = vec![
                    shown(&inbox.vibrator),
                    shown(known.account.process.name()),
                    inbox.open.to_string(),
                    short(ledger.offered as f64),
                    short(ledger.lost() as f64),
                    short(ledger.queued as f64),
                    format!("{:.3}", inbox.effective_floor.as_f32()),
                ];
                Row::new(right(cells, 2)).style(style_of(known))
            });
            let head = ["vibrator", "of", "open", "offered", "lost", "queued", "floor"];
            let widths = [20, 6, 7, 7, 7, 5].map(Constraint::Length);
            table(frame, area, (&head, widths.to_vec()), rows);
        }
        Tab::Present => {
            let rows = snapshot.vibrators.iter().skip(first).take(page).map(|announced| {
                let heard = announced.heard.iter().map(|heard| match &heard.group {
                    Some(group) => format!("{} (group {group})", heard.pattern.as_str()),
                    None => heard.pattern.as_str().to_owned(),
                });
                let floor = format!("{:.3}", announced.effective_floor.as_f32());
                let heard = shown(&heard.collect::<Vec<_>>().join(", "));
                Row::new([shown(&announced.vibrator.to_string()), floor, heard].map(Line::from))
            });
            let widths = vec![Constraint::Length(5), Constraint::Min(20)];
            table(frame, area, (&["vibrator", "floor", "hears"], widths), rows);
        }
        Tab::Incidents => {
            let none = "No incidents. The detectors know the habits of a service after 20 seconds.";
            texts(frame, area, &snapshot.lines[first..], explained(snapshot, none));
        }
        Tab::Map => {
            let none = "No related channels were found yet.";
            texts(frame, area, &snapshot.map[first..], explained(snapshot, none));
        }
    }
}

fn explained<'a>(snapshot: &Snapshot, none: &'a str) -> &'a str {
    if snapshot.observes { none } else { "Waves are not observed (--no-physics)." }
}

fn process_row(known: &KnownProcess) -> Row<'static> {
    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), short);
    let handlers = known.account.all_handlers();
    let breakers = match handlers.breakers {
        0 => String::new(),
        all => format!("{}/{all}", handlers.breakers_open),
    };
    let mark = if known.suspicious > 0 { "?" } else { "" };
    let why = losses(known).into_iter().max_by_key(|(_, waves)| *waves);
    let why = why.map(|(reason, _)| format!("  ({reason})")).unwrap_or_default();
    let cells = vec![
        shown(&format!("{mark}{}{why}", known.account.process.name())),
        known.standing.as_str().to_owned(),
        rate(known.rates.map(|rates| rates.offered)),
        rate(known.rates.map(|rates| rates.lost)),
        short(lost(known) as f64),
        short(known.account.ledger().queued as f64),
        format!("{:.3}", known.account.effective_floor().as_f32()),
        breakers,
    ];
    Row::new(right(cells, 2)).style(style_of(known))
}

/// Those that have gone are dimmed, those that lose waves now are red, suspicious ones yellow.
fn style_of(known: &KnownProcess) -> Style {
    let loses = known.rates.is_some_and(|rates| rates.lost > 0.0);
    match known.standing {
        Standing::Present if known.suspicious > 0 => Style::new().fg(Color::Yellow),
        Standing::Present if loses => Style::new().fg(Color::Red),
        Standing::Present => Style::new(),
        _ => Style::new().add_modifier(Modifier::DIM),
    }
}

/// Cells of which those after the first few are aligned to the right.
fn right(cells: Vec<String>, left: usize) -> Vec<Line<'static>> {
    let aligned = |(at, text): (usize, String)| {
        Line::from(text).alignment(if at < left { Alignment::Left } else { Alignment::Right })
    };
    cells.into_iter().enumerate().map(aligned).collect()
}

fn table<'a>(
    frame: &mut Frame<'_>,
    area: Rect,
    (head, widths): (&[&str], Vec<Constraint>),
    rows: impl Iterator<Item = Row<'a>>,
) {
    let left = if head.len() == 3 { 3 } else { 2 };
    let head = Row::new(right(head.iter().map(|&title| title.to_owned()).collect(), left)).dim();
    // The first column takes what is left.
    let widths = [Constraint::Min(16)].into_iter().chain(widths);
    frame.render_widget(Table::new(rows, widths).header(head).column_spacing(1), area);
}

fn texts(frame: &mut Frame<'_>, area: Rect, lines: &[String], none: &str) {
    if lines.is_empty() {
        frame.render_widget(Line::from(none.to_owned()).dim(), area);
        return;
    }
    let lines: Vec<_> = lines.iter().map(|line| Line::from(shown(line))).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// A text from the network, without what could control the terminal.
fn shown(text: &str) -> String {
    printable(text, MOST_CHARACTERS)
}

/// A number in at most six characters: 0.5, 17, 9999, 12.3k, 4.5M.
fn short(number: f64) -> String {
    const UNITS: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    if number < 9999.5 {
        let is_whole = number.fract() == 0.0 || number >= 99.95;
        return if is_whole { format!("{number:.0}") } else { format!("{number:.1}") };
    }
    let (mut rest, mut unit) = (number, 0);
    while rest >= 999.95 && unit + 1 < UNITS.len() {
        rest /= 1000.0;
        unit += 1;
    }
    format!("{rest:.1}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (17.0, "17"),
            (123.4, "123"),
            (9999.0, "9999"),
            (12_345.0, "12.3k"),
            (999_960.0, "1.0M"),
            (9_007_199_254_740_991.0, "9.0P"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
