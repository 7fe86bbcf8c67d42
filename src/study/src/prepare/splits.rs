//! Which subjects are learned from, which tell when to stop, which are only measured on.

use super::source::RawCase;
use crate::dataset::Part;
use crate::error::{Error, Result};
use crate::random::{Use, generator, shuffled};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;

const PARTS: [Part; 3] = [Part::Train, Part::Validation, Part::Test];

/// Shares of the subjects for training, validation and test. They sum to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shares(pub [f64; 3]);

impl Default for Shares {
    fn default() -> Self {
        Self([0.7, 0.1, 0.2])
    }
}

impl FromStr for Shares {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Vec<f64> = text.split(',').filter_map(|part| part.trim().parse().ok()).collect();
        let shares = <[f64; 3]>::try_from(numbers).map_err(|_| "three numbers are needed, such as 0.7,0.1,0.2")?;
        if shares.iter().any(|share| !(0.0..=1.0).contains(share)) || (shares.iter().sum::<f64>() - 1.0).abs() > 1e-6 {
            return Err("shares lie between 0 and 1 and sum to 1".into());
        }
        Ok(Self(shares))
    }
}

/// The part of each subject.
///
/// Subjects are shuffled by the seed, those of one modality and site together, and dealt out so that every group comes
/// close to the shares. What the source itself keeps for tests stays there, and is then the test part.
pub(crate) fn assign(cases: &[RawCase], shares: Shares, seed: u64) -> Result<BTreeMap<String, Part>> {
    let mut fixed = BTreeMap::new();
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for case in cases {
        match case.part {
            Some(part) => {
                fixed.insert(case.subject.clone(), part);
            }
            None => groups.entry(&case.group).or_default().push(&case.subject),
        }
    }
    let shares = if fixed.values().any(|part| *part == Part::Test) { without_test(shares.0) } else { shares.0 };
    let mut order = Vec::new();
    for (number, subjects) in groups.values_mut().enumerate() {
        subjects.sort_unstable();
        subjects.dedup();
        subjects.retain(|subject| !fixed.contains_key(*subject));
        let shuffle = shuffled(subjects.len(), &mut generator(seed, Use::Split, number as u64));
        order.extend(shuffle.into_iter().map(|index| subjects[index].to_owned()));
    }
    let parts = deal(order.len(), shares);
    if order.is_empty() && fixed.is_empty() {
        return Err(Error::argument("there is no subject to split", "check the folder"));
    }
    fixed.extend(order.into_iter().zip(parts));
    Ok(fixed)
}

fn without_test([train, validation, _]: [f64; 3]) -> [f64; 3] {
    let sum = train + validation;
    if sum > 0.0 { [train / sum, validation / sum, 0.0] } else { [1.0, 0.0, 0.0] }
}

/// Deals out parts one by one, always the one that is furthest behind its share; none that has a share stays empty
/// while there are subjects enough.
fn deal(count: usize, shares: [f64; 3]) -> Vec<Part> {
    let mut counts = [0usize; 3];
    let mut dealt: Vec<usize> = (1..=count)
        .map(|number| {
            let behind = |part: usize| shares[part] * number as f64 - counts[part] as f64;
            let next = (1..3).fold(0, |best, part| if behind(part) > behind(best) + 1e-9 { part } else { best });
            counts[next] += 1;
            next
        })
        .collect();
    for part in 0..3 {
        let largest = (0..3).max_by_key(|&part| counts[part]).expect("three parts");
        if shares[part] > 0.0 && counts[part] == 0 && counts[largest] > 1 {
            let from = dealt.iter().rposition(|&dealt| dealt == largest).expect("it is the largest");
            dealt[from] = part;
            counts[largest] -= 1;
            counts[part] += 1;
        }
    }
    dealt.into_iter().map(|part| PARTS[part]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(count: usize, shares: [f64; 3]) -> [usize; 3] {
        let dealt = deal(count, shares);
        PARTS.map(|part| dealt.iter().filter(|dealt| **dealt == part).count())
    }

    #[test]
    fn shares_are_kept_and_no_part_is_forgotten() {
        let shares = Shares::default().0;
        assert_eq!(counts(100, shares), [70, 10, 20]);
        assert_eq!(counts(10, shares), [7, 1, 2]);
        assert_eq!(counts(3, shares), [1, 1, 1]);
        assert_eq!(counts(2, shares).iter().sum::<usize>(), 2);
        assert_eq!(counts(5, [1.0, 0.0, 0.0]), [5, 0, 0]);
    }

    #[test]
    fn a_stretch_of_the_order_has_its_share_too() {
        let dealt = deal(60, Shares::default().0);
        for group in dealt.chunks(10) {
            assert!(group.contains(&Part::Test) && group.contains(&Part::Train));
        }
    }

    #[test]
    fn shares_that_are_none_are_refused() {
        assert_eq!("0.6, 0.2,0.2".parse::<Shares>(), Ok(Shares([0.6, 0.2, 0.2])));
        for wrong in ["0.5,0.5", "0.5,0.5,0.5", "1.5,-0.5,0", "a,b,c", "nan,0,1"] {
            assert!(wrong.parse::<Shares>().is_err(), "{wrong}");
        }
    }
}
