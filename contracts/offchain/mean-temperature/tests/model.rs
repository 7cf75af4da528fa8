//! The module against exact arithmetic over all readings at once.

use diversity_guest::testing::{LeafBuilder, TestOutput, WindowBuilder, run};
use mean_temperature::{THRESHOLD, mean_temperature};
use proptest::prelude::*;

fn execute(sensors: &[Vec<i32>]) -> TestOutput {
    let window = sensors
        .iter()
        .enumerate()
        .fold(WindowBuilder::new(0), |window, (n, readings)| {
            let leaf = LeafBuilder::new([n as u8; 20], 4);
            window.leaf(readings.iter().enumerate().fold(leaf, |leaf, (i, x)| {
                leaf.message(i as u64, &x.to_be_bytes())
            }))
        });
    run(mean_temperature, &window.input(&[]))
}

fn mean(readings: &[i32]) -> Option<i32> {
    let sum: i128 = readings.iter().map(|x| i128::from(*x)).sum();
    sum.checked_div(readings.len() as i128)
        .map(|mean| mean as i32)
}

#[test]
fn at_the_threshold_it_is_a_value_and_below_it_null() {
    assert_eq!(
        execute(&[vec![THRESHOLD]]).result,
        Some(THRESHOLD.to_be_bytes().to_vec())
    );
    let below = execute(&[vec![THRESHOLD, THRESHOLD - 1]]);
    assert_eq!(below.result, None);
    assert_eq!(
        below.detail,
        [[&19_999i32.to_be_bytes()[..], &2u32.to_be_bytes()].concat()]
    );
}

#[test]
fn without_messages_it_is_null() {
    assert_eq!(execute(&[]).result, None);
    let silent = execute(&[vec![], vec![]]);
    assert_eq!((silent.result, silent.detail), (None, vec![vec![0; 8]; 2]));
}

#[test]
fn extremes_do_not_overflow() {
    let hot = execute(&[vec![i32::MAX; 1_000], vec![i32::MAX; 24]]);
    assert_eq!(hot.result, Some(i32::MAX.to_be_bytes().to_vec()));
    assert_eq!(
        execute(&[vec![i32::MIN; 1_000]]).detail[0][..4],
        i32::MIN.to_be_bytes()
    );
}

#[test]
#[should_panic(expected = "trap")]
fn a_carry_traps() {
    run(mean_temperature, &WindowBuilder::new(1).input(&[0]));
}

proptest! {
    #[test]
    fn mean_over_all_sensors(sensors in prop::collection::vec(prop::collection::vec(-60_000i32..100_000, 0..30), 0..6)) {
        let output = execute(&sensors);
        let expected = mean(&sensors.concat()).filter(|mean| *mean >= THRESHOLD);
        prop_assert_eq!(output.result, expected.map(|mean| mean.to_be_bytes().to_vec()));
        prop_assert_eq!(output.detail.len(), sensors.len());
        for (item, readings) in output.detail.iter().zip(&sensors) {
            let item_expected = [mean(readings).unwrap_or(0).to_be_bytes(), (readings.len() as u32).to_be_bytes()];
            prop_assert_eq!(item, &item_expected.concat());
        }
        prop_assert!(output.carry.is_empty());
    }
}
