//! Incident 1 of beside-beta-killed.rec as a test.
//!
//! critical: beta stopped: its 5 streams are silent for 5.00 s, so are 4 channels that follow, and
//! alpha waits for answers; check the process
//!
//! Made by `aether physics --replay FILE --incident N --as-test FILE`. Each process is a stand-in
//! that emits, asks and answers as in the recording, which has no payloads: they are numbers. Times
//! count from the beginning of the simulation, and the recording begins after 2 s.
//!
//! It needs these dependencies: `aether` (the package aether-bus) with the feature `physics`,
//! `aether-testing` (aether-bus-testing), and `tokio` with the feature `macros`.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aether::physics::{Incident, PhysicsEngine, PhysicsObserver};
use aether_testing::sim::{Act, Sim, StandIn};

#[test]
fn beta_stopped_is_found() {
    let mut sim = Sim::with_seed(1);
    // To test a real service, put it in place of its stand-in: sim.serve("alpha", || service()),
    // where service() makes its ServiceBuilder.
    sim.process("alpha", |aether, shutdown| alpha().run(aether, shutdown));
    sim.process("beta", |aether, shutdown| beta().run(aether, shutdown));
    sim.process("payments", |aether, shutdown| payments().run(aether, shutdown));
    sim.process("export", |aether, shutdown| export().run(aether, shutdown));
    sim.process("limiter", |aether, shutdown| limiter().run(aether, shutdown));
    sim.process("pulse", |aether, shutdown| pulse().run(aether, shutdown));
    sim.process("sweep", |aether, shutdown| sweep().run(aether, shutdown));
    sim.process("report", |aether, shutdown| report().run(aether, shutdown));
    sim.process("backup", |aether, shutdown| backup().run(aether, shutdown));
    let found = observe(&mut sim);

    // The fault.
    sim.at(Duration::from_millis(37_078), |sim| sim.kill("beta"));
    sim.run_for(Duration::from_millis(47_296));

    let found = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let is_it = |incident: &&Incident| {
        incident.cause.as_str() == "stopped" && incident.services == ["beta"]
    };
    let incident = found.iter().find(is_it).unwrap_or_else(|| panic!("not among {found:#?}"));
    assert_eq!(
        as_recorded(incident.clone()).to_string(),
        "beta stopped: its 5 streams are silent for 5.00 s, so are 4 channels that follow, and alpha waits for answers; check the process"
    );
    assert_eq!(
        sorted(&incident.streams),
        [
            "inventory.commit", "inventory.level", "inventory.reserve", "inventory.reserved",
            "inventory.restocked",
        ]
    );
    assert_eq!(
        sorted(&incident.followers),
        ["inventory.commit", "orders.completed", "orders.created", "payments.charge"]
    );
    assert_eq!(sorted(&incident.waiting), ["alpha"]);
    sim.finish();
}

fn alpha() -> StandIn {
    StandIn::new("alpha")
        .act(
            Act::event("orders.created")
                .every(Duration::from_micros(250_001))
                .jitter(0.03)
                .from(Duration::from_millis(2046))
                .until(Duration::from_millis(41_171)),
        )
        .act(
            Act::command("inventory.reserve")
                .after("orders.created")
                .tries(19, Duration::from_micros(179_343)),
        )
        .act(Act::command("payments.charge").amplitude(0.6).after_answer("inventory.reserve"))
        .act(
            Act::command("inventory.commit")
                .amplitude(0.8)
                .after_answer("payments.charge")
                .except(&[14, 24, 25, 31, 33, 69, 88, 103, 105, 111, 122, 127, 134]),
        )
        .act(Act::event("orders.completed").amplitude(0.8).after_answer("inventory.commit"))
        .act(
            Act::command("inventory.release")
                .amplitude(0.9)
                .after_answer("payments.charge")
                .only(&[14, 24, 25, 31, 33, 69, 88, 103, 105, 111, 122, 127, 134]),
        )
        .act(Act::event("orders.compensated").amplitude(0.9).after_answer("inventory.release"))
}

fn beta() -> StandIn {
    StandIn::new("beta")
        .act(Act::event("inventory.reserved").on("inventory.reserve"))
        .act(Act::answer("inventory.reserve"))
        .act(Act::answer("inventory.commit"))
        .act(
            Act::event("inventory.level")
                .every(Duration::from_micros(1_000_003))
                .from(Duration::from_millis(3001)),
        )
        .act(
            Act::event("inventory.restocked")
                .at_millis(&[
                    5004, 5004, 5004, 8001, 8001, 8001, 8001, 11_002, 11_002, 11_002, 11_002,
                    11_002, 14_001, 14_001, 14_001, 14_001, 17_001, 17_001, 17_001, 17_001,
                    20_002, 20_002, 20_002, 20_002, 20_002, 23_001, 23_001, 23_001, 23_001,
                    26_001, 26_001, 26_001, 26_001, 26_001, 29_001, 29_001, 29_001, 29_001,
                    29_001, 32_001, 32_001, 32_001, 32_001, 32_001, 35_001, 35_001, 35_001,
                    35_001, 35_001,
                ]),
        )
        .act(Act::event("inventory.released").on("inventory.release"))
        .act(Act::answer("inventory.release"))
}

fn payments() -> StandIn {
    StandIn::new("payments")
        .act(
            Act::event("payments.charged")
                .amplitude(0.6)
                .on("payments.charge")
                .except(&[14, 24, 25, 31, 33, 69, 88, 103, 105, 111, 122, 127, 134]),
        )
        .act(Act::answer("payments.charge"))
        .act(
            Act::event("payments.declined")
                .amplitude(0.7)
                .on("payments.charge")
                .only(&[14, 24, 25, 31, 33, 69, 88, 103, 105, 111, 122, 127, 134]),
        )
}

fn export() -> StandIn {
    StandIn::new("export")
        .act(
            Act::event("batch.export")
                .every(Duration::from_micros(24_775))
                .jitter(1.00)
                .from(Duration::from_millis(2087)),
        )
}

fn limiter() -> StandIn {
    StandIn::new("limiter")
        .act(
            Act::event("mails.sent")
                .at_millis(&[
                    2087, 2139, 2190, 2242, 2293, 2344, 2396, 2448, 2499, 2550, 2601, 2653, 2704,
                    2755, 2806, 2857, 2908, 2959, 3010, 3061, 3112, 3163, 3216, 3266, 3322, 3368,
                    3419, 3470, 3521, 3572, 3623, 3674, 3725, 3780, 3831, 3883, 3935, 3986, 4037,
                    4088, 4141, 4193, 4244, 4295, 4352, 4397, 4449, 5392, 5443, 5494, 5545, 5596,
                    5647, 5698, 5749, 5800, 5851, 5903, 5956, 6007, 6058, 6108, 6160, 6211, 6262,
                    6313, 6364, 6415, 6466, 6518, 6569, 6620, 6671, 6722, 6773, 6825, 6876, 6928,
                    6979, 7030, 7081, 7132, 7183, 7234, 7286, 7337, 7388, 7439, 7490, 7541, 7593,
                    9570, 9622, 9673, 9724, 9776, 9827, 9878, 9930, 9981, 10_032, 10_083, 10_798,
                    10_850, 10_901, 10_952, 11_003, 11_054, 11_105, 11_156, 11_207, 11_259,
                    11_310, 11_361, 11_413, 11_464, 11_515, 11_566, 11_617, 11_669, 11_720,
                    11_771, 11_822, 11_874, 11_925, 11_976, 12_027, 12_078, 12_129, 12_180,
                    12_231, 12_282, 12_334, 12_385, 12_436, 12_487, 12_538, 12_589, 12_640,
                    12_691, 12_742, 12_793, 12_848, 12_896, 12_947, 12_998, 13_050, 13_100,
                    13_150, 13_202, 13_624, 13_676, 13_727, 13_778, 13_829, 13_880, 13_931,
                    13_982, 14_033, 14_084, 14_135, 14_185, 16_015, 16_066, 16_117, 16_170,
                    16_220, 16_271, 16_323, 16_374, 16_425, 16_476, 16_528, 16_579, 16_630,
                    16_681, 16_732, 16_783, 16_834, 16_886, 16_937, 16_988, 17_039, 17_090,
                    17_142, 17_193, 17_243, 17_295, 17_368, 17_411, 17_462, 17_513, 17_564,
                    17_615, 17_666, 17_717, 17_768, 17_820, 17_871, 17_922, 17_973, 18_139,
                    18_190, 18_241, 18_293, 18_344, 18_395, 18_446, 18_497, 18_548, 18_599,
                    18_650, 18_701, 18_752, 18_804, 18_855, 18_906, 18_957, 19_009, 19_060,
                    19_111, 19_162, 19_213, 19_265, 19_317, 19_368, 19_419, 19_470, 19_522,
                    19_573, 19_625, 19_677, 19_728, 19_779, 19_831, 19_882, 19_933, 19_984,
                    20_035, 20_086, 20_137, 20_188, 20_240, 20_290, 20_342, 20_393, 20_444,
                    20_496, 20_546, 20_598, 20_649, 20_701, 20_752, 20_804, 20_854, 20_906,
                    20_957, 21_008, 21_060, 21_111, 24_545, 24_596, 24_648, 24_699, 24_750,
                    24_818, 24_866, 24_916, 24_973, 25_018, 25_069, 25_123, 25_180, 25_228,
                    25_277, 25_330, 25_379, 25_430, 25_481, 25_533, 25_585, 25_648, 25_698,
                    25_749, 25_800, 25_852, 25_903, 25_954, 26_005, 26_056, 26_108, 28_134,
                    28_189, 28_239, 28_290, 28_341, 28_392, 28_443, 28_494, 28_545, 28_597,
                    28_648, 28_704, 28_754, 28_806, 28_857, 28_908, 28_959, 29_011, 29_062,
                    29_113, 29_164, 29_218, 29_267, 29_318, 29_368, 29_420, 29_471, 29_522,
                    29_573, 29_624, 29_675, 29_726, 29_777, 29_827, 29_879, 29_929, 29_981,
                    30_032, 30_083, 30_134, 30_185, 30_236, 30_287, 30_339, 30_390, 30_441,
                    30_492, 30_543, 32_311, 32_362, 32_414, 32_465, 32_516, 32_567, 32_618,
                    32_669, 32_720, 32_771, 32_822, 32_873, 32_925, 32_976, 33_027, 33_078,
                    33_128, 33_179, 33_231, 33_282, 33_334, 33_384, 33_436, 33_487, 33_538,
                    33_589, 33_640, 33_692, 33_743, 33_794, 33_846, 33_897, 33_948, 35_690,
                    35_742, 35_793, 35_844, 35_895, 35_946, 35_998, 36_049, 36_101, 36_152,
                    36_203, 36_254, 36_305, 36_356, 36_408, 36_459, 36_510, 36_561, 36_612,
                    36_663, 36_714, 36_773, 36_817, 36_868, 36_919, 36_970, 37_022, 37_072,
                    37_123, 37_174, 37_225, 37_277, 37_328, 37_379, 37_430, 37_481, 37_531,
                    37_583, 37_634, 37_690, 37_741, 37_793, 37_847, 37_896, 37_951, 38_002,
                    38_052, 38_103, 38_154, 38_205, 38_257, 38_308, 38_359, 38_410, 38_461,
                    38_512, 41_893, 41_944, 41_995, 42_045, 42_097, 42_147, 42_198, 42_250,
                    42_301, 42_352, 42_403, 42_455, 42_506, 42_557, 42_608, 42_659, 42_709,
                    42_761, 42_812, 42_863,
                ]),
        )
}

fn pulse() -> StandIn {
    StandIn::new("pulse")
        .act(
            Act::event("jobs.pulse")
                .every(Duration::from_millis(1000))
                .from(Duration::from_millis(2088)),
        )
}

fn sweep() -> StandIn {
    StandIn::new("sweep")
        .act(
            Act::event("jobs.sweep")
                .every(Duration::from_micros(2_500_029))
                .from(Duration::from_millis(2088)),
        )
}

fn report() -> StandIn {
    StandIn::new("report")
        .act(Act::event("jobs.report").at_millis(&[2088, 12_088, 22_088, 32_088, 42_088]))
}

fn backup() -> StandIn {
    StandIn::new("backup")
        .act(Act::event("jobs.backup").at_millis(&[2089]))
}

/// The incident with the times of the recording, so that the sentence is the same.
fn as_recorded(mut incident: Incident) -> Incident {
    incident.lasted = Duration::from_nanos(5_000_000_000);
    incident
}

fn sorted(names: &[impl ToString]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.sort_unstable();
    names
}

/// Runs the detectors in a process of their own, and returns the incidents that they find, when they begin.
fn observe(sim: &mut Sim) -> Arc<Mutex<Vec<Incident>>> {
    let found = Arc::<Mutex<Vec<Incident>>>::default();
    let into = Arc::clone(&found);
    sim.process("observer", move |aether, shutdown| {
        let found = Arc::clone(&into);
        async move {
            let engine = PhysicsEngine::default();
            let mut observer = PhysicsObserver::open("observer", ">", engine, &aether).await?;
            loop {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return Ok::<_, Box<dyn Error + Send + Sync>>(()),
                    advanced = observer.advance(256) => if advanced?.is_none() { return Ok(()) },
                }
                while observer.found().is_some() {}
                while let Some(incident) = observer.incident() {
                    if incident.until.is_none() {
                        found.lock().unwrap_or_else(PoisonError::into_inner).push(incident);
                    }
                }
            }
        }
    });
    found
}
