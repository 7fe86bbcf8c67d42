//! The statistics of an evaluation: means with bootstrap intervals, the signed-rank test of paired differences, rank
//! correlation. Everything random comes from a seed.

use crate::random::{Use, generator};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// Most pairs without ties for which the test is exact, as in scipy.
const EXACT: usize = 50;
/// Most pairs for which it is exact whatever they are, as in scipy.
const EXACT_WITH_TIES: usize = 13;

/// The mean; not a number of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A quantile, `share` from 0 to 1, interpolated linearly between neighbours as numpy does; not a number of nothing.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    quantile_of_sorted(&sorted, share)
}

fn quantile_of_sorted(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share * last as f64;
    let low = place.floor() as usize;
    sorted[low] + (sorted[(low + 1).min(last)] - sorted[low]) * place.fract()
}

/// The 95 % percentile interval of the mean by bootstrap over clusters: subjects are drawn with replacement, each with
/// all its values. `None` of fewer than two clusters, which say nothing of the spread between subjects.
pub fn bootstrap_mean(clusters: &[Vec<f64>], draws: usize, seed: u64) -> Option<[f64; 2]> {
    let sums: Vec<(f64, f64)> = clusters
        .iter()
        .filter(|values| !values.is_empty())
        .map(|values| (values.iter().sum(), values.len() as f64))
        .collect();
    if sums.len() < 2 || draws == 0 {
        return None;
    }
    let mut random = generator(seed, Use::Bootstrap, 0);
    let mut means: Vec<f64> = (0..draws)
        .map(|_| {
            let (mut sum, mut count) = (0.0, 0.0);
            for _ in 0..sums.len() {
                let drawn = sums[random.random_range(0..sums.len())];
                sum += drawn.0;
                count += drawn.1;
            }
            sum / count
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    Some([quantile_of_sorted(&means, 0.025), quantile_of_sorted(&means, 0.975)])
}

/// How the probability of a [`Wilcoxon`] test was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// From all possible signs.
    Exact,
    /// By the normal approximation, corrected for ties.
    Asymptotic,
}

/// Wilcoxon's signed-rank test, two-sided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wilcoxon {
    /// Pairs that differ; the others are left out.
    pub pairs: usize,
    /// The smaller one of the sums of positive and of negative ranks.
    pub statistic: f64,
    /// Probability of a difference as large by chance.
    pub p: f64,
    /// How it was computed.
    pub method: Method,
}

/// Tests whether paired differences are symmetric about zero, as `scipy.stats.wilcoxon` does by default: zeros are left
/// out; exact up to 50 pairs without ties or zeros and up to 13 pairs with them, else by the normal approximation
/// without correction for continuity. Without any difference the probability is 1.
pub fn wilcoxon(differences: &[f64]) -> Wilcoxon {
    let different: Vec<f64> = differences.iter().copied().filter(|&value| value != 0.0).collect();
    let sizes: Vec<f64> = different.iter().map(|value| value.abs()).collect();
    let (ranks, ties) = ranks(&sizes);
    let count = different.len() as f64;
    let positive: f64 = different.iter().zip(&ranks).filter(|(value, _)| **value > 0.0).map(|(_, rank)| rank).sum();
    let total = count * (count + 1.0) / 2.0;
    let tied = ties.iter().any(|&tie| tie > 1) || different.len() < differences.len();
    let exact = differences.len() <= if tied { EXACT_WITH_TIES } else { EXACT };
    let (p, method) = if exact || different.is_empty() {
        (exact_probability(&ranks, positive), Method::Exact)
    } else {
        (normal_probability(positive, count, &ties), Method::Asymptotic)
    };
    Wilcoxon { pairs: different.len(), statistic: positive.min(total - positive), p, method }
}

/// The share of all signs whose sum of positive ranks is as far out, two-sided.
fn exact_probability(ranks: &[f64], positive: f64) -> f64 {
    // Ranks of ties are halves: twice the rank is a whole number.
    let doubled = |rank: f64| (2.0 * rank).round() as usize;
    let most: usize = ranks.iter().map(|&rank| doubled(rank)).sum();
    let mut chances = vec![0.0; most + 1];
    chances[0] = 1.0;
    for &rank in ranks {
        let rank = doubled(rank);
        for sum in (0..=most).rev() {
            let with = if sum >= rank { chances[sum - rank] } else { 0.0 };
            chances[sum] = 0.5 * (chances[sum] + with);
        }
    }
    let at = doubled(positive);
    let below: f64 = chances[..=at].iter().sum();
    let above: f64 = chances[at..].iter().sum();
    (2.0 * below.min(above)).min(1.0)
}

fn normal_probability(positive: f64, count: f64, ties: &[usize]) -> f64 {
    let correction: f64 = ties.iter().map(|&tie| (tie as f64).powi(3) - tie as f64).sum();
    let spread = ((count * (count + 1.0) * (2.0 * count + 1.0) - correction / 2.0) / 24.0).sqrt();
    let z = (positive - count * (count + 1.0) / 4.0) / spread;
    libm::erfc(z.abs() / std::f64::consts::SQRT_2)
}

/// The rank of each value, from 1, that of ties being their mean; and how many values share each rank.
fn ranks(values: &[f64]) -> (Vec<f64>, Vec<usize>) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let (mut ranks, mut ties) = (vec![0.0; values.len()], Vec::new());
    let mut first = 0;
    for same in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = first as f64 + (same.len() as f64 + 1.0) / 2.0;
        same.iter().for_each(|&index| ranks[index] = rank);
        ties.push(same.len());
        first += same.len();
    }
    (ranks, ties)
}

/// Spearman's rank correlation; `None` of fewer than three pairs, or if all values of a side are the same.
pub fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < 3 {
        return None;
    }
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (a, b) = (ranks(&a).0, ranks(&b).0);
    let (mean_a, mean_b) = (mean(&a), mean(&b));
    let product = |x: &[f64], mean_x: f64, y: &[f64], mean_y: f64| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum()
    };
    let spread = (product(&a, mean_a, &a, mean_a) * product(&b, mean_b, &b, mean_b)).sqrt();
    (spread > 0.0).then(|| product(&a, mean_a, &b, mean_b) / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_rank_test_agrees_with_tables() {
        // The example of scipy's documentation: heights of cross- and self-fertilised corn.
        let corn = [6.0, 8.0, 14.0, 16.0, 23.0, 24.0, 28.0, 29.0, 41.0, -48.0, 49.0, 56.0, 60.0, -67.0, 75.0];
        let test = wilcoxon(&corn);
        assert_eq!((test.statistic, test.method), (24.0, Method::Exact));
        assert!((test.p - 0.041_259_765_625).abs() < 1e-12, "{}", test.p);
        // Five differences of one sign: twice one of 32.
        assert_eq!(wilcoxon(&[1.0, 2.0, 3.0, 4.0, 5.0]).p, 2.0 / 32.0);
        assert_eq!(wilcoxon(&[0.0; 4]).p, 1.0);
    }

    #[test]
    fn ties_share_their_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), (vec![3.5, 1.0, 3.5, 2.0], vec![1, 1, 2]));
    }

    #[test]
    fn an_interval_holds_the_mean_and_repeats() {
        let clusters: Vec<Vec<f64>> =
            (0..20).map(|subject| vec![f64::from(subject), f64::from(subject) + 1.0]).collect();
        let [low, high] = bootstrap_mean(&clusters, 2000, 1).expect("twenty subjects");
        assert!(low < 10.0 && 10.0 < high && high - low < 8.0, "{low} to {high}");
        assert_eq!(bootstrap_mean(&clusters, 2000, 1), Some([low, high]));
        assert_eq!(bootstrap_mean(&clusters[..1], 2000, 1), None);
    }

    #[test]
    fn order_alone_decides_the_rank_correlation() {
        let rising: Vec<(f64, f64)> = (0..9).map(|x| (f64::from(x), f64::from(x).exp())).collect();
        assert!((spearman(&rising).expect("nine pairs") - 1.0).abs() < 1e-12);
        assert_eq!(spearman(&[(1.0, 2.0), (1.0, 3.0), (1.0, 4.0)]), None);
    }
}
