//! The state of the screen: which list is shown, how far it is scrolled, and what a key does. It draws nothing.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::snapshot::Snapshot;

/// The lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Processes,
    Vibrators,
    Incidents,
    Map,
    Present,
}

impl Tab {
    pub(super) const ALL: [Self; 5] =
        [Self::Processes, Self::Vibrators, Self::Incidents, Self::Map, Self::Present];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Processes => "Processes",
            Self::Vibrators => "Vibrators",
            Self::Incidents => "Incidents",
            Self::Map => "Map",
            Self::Present => "Who is there",
        }
    }
}

/// The effect of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Quit,
    Draw,
    Nothing,
}

/// What is shown.
#[derive(Debug)]
pub(super) struct Screen {
    /// The medium, without secrets.
    pub(super) medium: String,
    pub(super) tab: Tab,
    /// The first row shown.
    pub(super) first: usize,
    /// The number of rows that were shown last.
    pub(super) page: usize,
    pub(super) shows_help: bool,
}

impl Screen {
    pub(super) fn new(medium: &str) -> Self {
        Self { medium: medium.to_owned(), tab: Tab::Processes, first: 0, page: 1, shows_help: false }
    }

    /// The number of rows of the list that is shown.
    pub(super) fn rows(&self, snapshot: &Snapshot) -> usize {
        match self.tab {
            Tab::Processes => snapshot.processes.len(),
            Tab::Vibrators => snapshot.processes.iter().map(|known| known.account.inboxes.len()).sum(),
            Tab::Incidents => snapshot.lines.len(),
            Tab::Map => snapshot.map.len(),
            Tab::Present => snapshot.vibrators.len(),
        }
    }

    /// Keeps the list on the screen after it has become shorter, or the screen larger.
    pub(super) fn keep_in(&mut self, rows: usize, page: usize) {
        self.page = page.max(1);
        self.first = self.first.min(rows.saturating_sub(self.page));
    }

    pub(super) fn press(&mut self, key: KeyEvent, snapshot: &Snapshot) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::Nothing;
        }
        // In raw mode Ctrl-C is a key and not a signal.
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if is_control => return Next::Quit,
            KeyCode::Char('q') => return Next::Quit,
            _ if std::mem::take(&mut self.shows_help) => return Next::Draw,
            KeyCode::Char('?' | 'h') => self.shows_help = true,
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(Tab::ALL.len() - 1),
            KeyCode::Char(number @ '1'..='5') => {
                self.turn_to(Tab::ALL[number as usize - '1' as usize]);
            }
            KeyCode::Up | KeyCode::Char('k') => self.first = self.first.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.first += 1,
            KeyCode::PageUp => self.first = self.first.saturating_sub(self.page),
            KeyCode::PageDown => self.first += self.page,
            KeyCode::Home => self.first = 0,
            KeyCode::End => self.first = usize::MAX,
            _ => return Next::Nothing,
        }
        self.keep_in(self.rows(snapshot), self.page);
        Next::Draw
    }

    fn turn(&mut self, by: usize) {
        let at = Tab::ALL.iter().position(|tab| *tab == self.tab).unwrap_or_default();
        self.turn_to(Tab::ALL[(at + by) % Tab::ALL.len()]);
    }

    fn turn_to(&mut self, tab: Tab) {
        (self.tab, self.first) = (tab, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    #[test]
    fn keys_turn_the_lists_and_scroll_within_them() {
        let snapshot = Snapshot { map: vec![String::new(); 30], ..Snapshot::default() };
        let mut screen = Screen::new("nats://a");
        for _ in 0..3 {
            assert_eq!(screen.press(key(KeyCode::Tab), &snapshot), Next::Draw);
        }
        assert_eq!(screen.tab, Tab::Map);
        screen.keep_in(30, 10);
        for (code, first) in [
            (KeyCode::Up, 0),
            (KeyCode::Down, 1),
            (KeyCode::PageDown, 11),
            (KeyCode::End, 20),
            (KeyCode::Down, 20),
            (KeyCode::PageUp, 10),
            (KeyCode::Home, 0),
        ] {
            screen.press(key(code), &snapshot);
            assert_eq!(screen.first, first, "{code:?}");
        }
        screen.press(key(KeyCode::End), &snapshot);
        // The list becomes shorter.
        screen.keep_in(12, 10);
        assert_eq!(screen.first, 2);
        screen.press(key(KeyCode::BackTab), &snapshot);
        assert_eq!((screen.tab, screen.first), (Tab::Incidents, 0));
        screen.press(key(KeyCode::Char('1')), &snapshot);
        screen.press(key(KeyCode::BackTab), &snapshot);
        assert_eq!(screen.tab, Tab::Present);
    }

    #[test]
    fn any_key_closes_the_help_and_q_and_control_c_quit() {
        let (snapshot, mut screen) = (Snapshot::default(), Screen::new("nats://a"));
        screen.press(key(KeyCode::Char('?')), &snapshot);
        assert!(screen.shows_help);
        assert_eq!(screen.press(key(KeyCode::Char('x')), &snapshot), Next::Draw);
        assert!(!screen.shows_help);
        assert_eq!(screen.press(key(KeyCode::Char('x')), &snapshot), Next::Nothing);
        assert_eq!(screen.press(key(KeyCode::Char('q')), &snapshot), Next::Quit);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen.press(control_c, &snapshot), Next::Quit);
    }
}
