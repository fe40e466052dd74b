//! Random numbers from the distributions that the generators need.

use fastrand::Rng;

/// Exponential distribution with a given mean.
pub(super) fn exponential(random: &mut Rng, mean: f64) -> f64 {
    -mean * (1.0 - random.f64()).ln()
}

/// Normal distribution with mean 0 and standard deviation 1 (Box and Muller).
pub(super) fn normal(random: &mut Rng) -> f64 {
    (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos()
}

/// Uniform distribution over a range.
pub(super) fn uniform(random: &mut Rng, from: f64, to: f64) -> f64 {
    from + random.f64() * (to - from)
}

/// Poisson distribution with a given mean (Knuth).
pub(super) fn poisson(random: &mut Rng, mean: f64) -> usize {
    let (limit, mut product, mut count) = ((-mean).exp(), random.f64(), 0);
    while product > limit {
        product *= random.f64();
        count += 1;
    }
    count
}
