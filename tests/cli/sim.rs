//! `kadnode sim`.

use serde_json::Value;

use super::support::{Home, failure, output};

fn json(home: &Home, more: &[&str]) -> Value {
    let args = [&["sim", "--nodes", "60", "--lookups", "40", "--json"], more].concat();
    let (code, stdout, stderr) = output(home.path(), &args);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    serde_json::from_str(&stdout).expect("one JSON object")
}

#[test]
fn a_simulation_repeats_on_any_number_of_threads_and_at_both_fidelities() {
    let home = Home::new();
    let one = json(&home, &[]);
    for more in [&["--threads", "2"][..], &["--fidelity", "wire", "--threads", "2"]] {
        let other = json(&home, more);
        for field in ["event_hash", "hops", "queries", "found_closest", "found_all_16", "messages"] {
            assert_eq!(one[field], other[field], "{field} with {more:?}");
        }
    }
    assert_eq!((&one["nodes"], &one["seed"], &one["found_closest"]), (&60.into(), &1.into(), &1.0.into()));
    assert_ne!(one["event_hash"], json(&home, &["--seed", "2"])["event_hash"]);
    let shares: f64 = one["hops"]["distribution"].as_array().unwrap().iter().filter_map(Value::as_f64).sum();
    assert!((shares - 1.0).abs() < 1e-9);
}

#[test]
fn what_cannot_be_simulated_is_refused_in_a_sentence() {
    let home = Home::new();
    let refused = |args: &[&str]| failure(home.path(), &[&["sim"], args].concat());
    let cases: [(&[&str], &str); 5] = [
        (&["--nodes", "0"], "error: a network has from 2 to 16777216 nodes, not 0\n"),
        (&["--alpha", "0"], "error: the setting lookup.alpha is 0; it has to be at least 1\n"),
        (&["--k", "17"], "error: the setting table.k is 17; a FINDNODE is answered with at most 16 nodes\n"),
        (&["--threads", "0"], "error: the number of threads has to be at least 1\n"),
        (&["--loss", "1"], "error: the loss is a share from 0 to below 1, not 1\n"),
    ];
    for (args, sentence) in cases {
        assert_eq!(refused(args), (2, sentence.to_owned()), "{args:?}");
    }
    let (code, said) = refused(&["--latency", "fast"]);
    assert_eq!(code, 2);
    assert!(said.contains("\"fast\" is no latency: say constant:MS, uniform:LO-HI"), "{said}");
}

#[test]
fn plots_are_written_where_they_are_wanted() {
    let home = Home::new();
    let dir = home.path().join("a/b");
    let args = ["sim", "--nodes", "60", "--lookups", "40", "--json", "--plot", dir.to_str().unwrap()];
    let (code, stdout, stderr) = output(home.path(), &args);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(serde_json::from_str::<Value>(&stdout).is_ok(), "standard output is the report's alone");
    for line in stderr.lines() {
        let path = line.strip_prefix("plot: ").expect("a line for each plot, and nothing else");
        assert!(std::fs::read_to_string(path).unwrap().starts_with("<svg "), "{path}");
    }
    assert!(stderr.starts_with(&format!("plot: {}\n", dir.join("hops.svg").display())), "{stderr}");

    let file = home.path().join("file");
    std::fs::write(&file, "x").unwrap();
    // So many nodes that it would take long, if it began.
    let args = ["sim", "--nodes", "1000000", "--plot", file.to_str().unwrap()];
    let (code, said) = failure(home.path(), &args);
    assert_eq!(code, 2);
    assert!(said.starts_with(&format!("error: cannot make the directory {} for plots: ", file.display())), "{said}");
}
