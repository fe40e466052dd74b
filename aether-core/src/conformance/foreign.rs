//! Line 11: what comes from clients of the broker that do not know Aether.

use super::report::Checked;
use super::stage::Stage;

super::cases! {
    11 Foreign a_foreign_message_arrives_as_a_wave_with_default_values,
}

async fn a_foreign_message_arrives_as_a_wave_with_default_values(_stage: &Stage) -> Checked {
    Ok(())
}
