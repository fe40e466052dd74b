//! The settings of boundary rules: the section `[border]`.

use aether::rules::{Border, Rule, Rules, RulesError};
use serde::{Deserialize, Serialize};

use super::list::List;
#[cfg(feature = "schema")]
use super::payloads::PayloadSchemas;

/// The rules for emitting and listening, and the schemas of payloads.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BorderSettings {
    /// The rules; empty for none, which allows everything.
    pub rules: RuleList,
    /// The JSON schemas of payloads; empty for none.
    #[cfg(feature = "schema")]
    pub schemas: PayloadSchemas,
    #[cfg(not(feature = "schema"))]
    schemas: NoSchemas,
}

/// The schemas in a program that can check none: the setting is known, and a value is refused with the reason.
#[cfg(not(feature = "schema"))]
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "List<String>", into = "List<String>")]
struct NoSchemas;

#[cfg(not(feature = "schema"))]
impl TryFrom<List<String>> for NoSchemas {
    type Error = &'static str;
    fn try_from(List(schemas): List<String>) -> Result<Self, Self::Error> {
        const WITHOUT: &str = "this program was built without the feature schema of aether-service: build it with, or leave \
                               border.schemas empty";
        if schemas.is_empty() { Ok(Self) } else { Err(WITHOUT) }
    }
}

#[cfg(not(feature = "schema"))]
impl From<NoSchemas> for List<String> {
    fn from(_: NoSchemas) -> Self {
        Self::default()
    }
}

/// Rules that can be used together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "List<Rule>", into = "List<Rule>")]
pub struct RuleList(Vec<Rule>);

impl TryFrom<List<Rule>> for RuleList {
    type Error = RulesError;
    fn try_from(List(rules): List<Rule>) -> Result<Self, RulesError> {
        Rules::new(rules.iter().cloned())?;
        Ok(Self(rules))
    }
}

impl From<RuleList> for List<Rule> {
    fn from(RuleList(rules): RuleList) -> Self {
        Self(rules)
    }
}

impl BorderSettings {
    /// The rules; `None` if there are none, which allows everything.
    #[must_use]
    pub fn rules(&self) -> Option<Rules> {
        // They were compiled when they were read.
        let rules = || Rules::new(self.rules.0.iter().cloned()).ok();
        if self.rules.0.is_empty() { None } else { rules() }
    }

    /// Changes the rules and the schemas of a border to these, which may be none.
    pub(super) fn apply(&self, border: &Border) {
        border.change(self.rules());
        #[cfg(feature = "schema")]
        border.check_payloads(self.schemas.compiled());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BorderSettings, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn rules_are_lines_that_are_checked_together() {
        assert!(read("").unwrap().rules().is_none());
        let settings = read(r#"rules = ["billing: emit invoices.>; max_rate 10", "*: listen >"]"#).unwrap();
        assert!(settings.rules().is_some());
        let written = toml::to_string(&settings).unwrap();
        assert_eq!(read(&written).unwrap(), settings);
        let refused = read(r#"rules = ["billing: sing"]"#).unwrap_err();
        assert!(refused.contains("IDENTITY: emit PATTERN"), "{refused}");
        let refused = read(r#"rules = ["billing: emit a", "*: deny emit >"]"#).unwrap_err();
        assert!(refused.contains("remove one of the two"), "{refused}");
    }
}
