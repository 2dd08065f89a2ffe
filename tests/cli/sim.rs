//! `kadnode sim`.

use serde_json::Value;

use super::support::{Home, failure, output};

fn json(home: &Home, more: &[&str]) -> Value {
    let mut args = [&["sim", "--lookups", "40", "--json"], more].concat();
    if !more.contains(&"--nodes") {
        args.extend(["--nodes", "60"]);
    }
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
    let cases: [(&[&str], &str); 16] = [
        (&["--nodes", "0"], "error: a network has from 2 to 16777216 nodes, not 0\n"),
        (&["--paths", "9"], "error: the setting lookup.paths is 9; a lookup goes along 1 to 8 paths\n"),
        (&["--alpha", "0"], "error: the setting lookup.alpha is 0; it has to be at least 1\n"),
        (&["--k", "17"], "error: the setting table.k is 17; a FINDNODE is answered with at most 16 nodes\n"),
        (&["--threads", "0"], "error: the number of threads has to be at least 1\n"),
        (&["--loss", "1"], "error: the loss is a share from 0 to below 1, not 1\n"),
        (&["--loss", "-0.1"], "error: the loss is a share from 0 to below 1, not -0.1\n"),
        (&["--jitter", "-1"], "error: the jitter is from 0 to 60000 milliseconds, not -1\n"),
        (&["--dead", "1.5"], "error: the share of the dead is a share from 0 to below 1, not 1.5\n"),
        (&["--sybils", "0.95"], "error: the share of the Sybils is a share from 0 to 0.9, not 0.95\n"),
        (&["eclipse", "--runs", "0"], "error: the number of runs has to be from 1 to 1000000, not 0\n"),
        (&["eclipse", "--nodes", "5"], "error: the number of honest nodes has to be from 16 to 1000000, not 5\n"),
        (
            &["--nodes", "50", "eclipse"],
            "error: the subcommand 'eclipse' cannot be used with '--nodes <N>'; options stand after the command (see --help)\n",
        ),
        (&["--settle", "0"], "error: the time to settle has to be from 1 second to 30 days, not 0 s\n"),
        (&["--watch", "0"], "error: the time of the lookups has to be from 1 second to 30 days, not 0 s\n"),
        (&["--scenario", "churn", "--dead", "0.1"], "error: nodes that come and go cannot be dead as well\n"),
    ];
    for (args, sentence) in cases {
        assert_eq!(refused(args), (2, sentence.to_owned()), "{args:?}");
    }
    for (option, value) in [("--watch", "-1"), ("--nodes", "many")] {
        let (code, said) = refused(&[option, value]);
        assert_eq!(code, 2);
        assert!(said.starts_with(&format!("error: invalid value '{value}' for '{option} <")), "{said}");
        assert!(said.contains("it has to be a whole number, and not below 0"), "{said}");
    }
    let (code, said) = refused(&["--latency", "fast"]);
    assert_eq!(code, 2);
    assert!(said.contains("\"fast\" is no latency: say constant:MS, uniform:LO-HI"), "{said}");
}

#[test]
fn scenarios_are_listed_one_a_line() {
    let home = Home::new();
    let (code, stdout, stderr) = output(home.path(), &["sim", "--list"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let names: Vec<&str> = stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let expected = "steady join-storm churn half-die partition late-bootnodes dead-20 dead-50 lossy nat ring";
    assert_eq!(names, expected.split(' ').collect::<Vec<_>>());
    assert!(stdout.lines().all(|line| line.len() < 120));
}

#[test]
fn options_take_the_place_of_what_the_scenario_says() {
    let home = Home::new();
    let ring = json(&home, &["--scenario", "ring", "--nodes", "5"]);
    assert_eq!((&ring["scenario"], &ring["nodes"], &ring["lookups"]), (&"ring".into(), &5.into(), &40.into()));
    assert_eq!(ring["census"]["entries"]["mean"], 4.0);
    assert_eq!(ring["census"]["connected"], 1.0);
    assert!(ring["joiners"]["found"].as_array().is_some_and(|ages| !ages.is_empty()));
    assert!(ring["per_minute"]["ping"]["messages"].as_f64().is_some_and(|rate| rate > 1.0));
    let dead = json(&home, &["--scenario", "dead-50", "--dead", "0.1", "--fill", "warm"]);
    assert!(dead["census"]["running"].as_u64().is_some_and(|running| (45..60).contains(&running)));
    assert_eq!(json(&home, &["--loss", "0.2"])["event_hash"], json(&home, &["--loss", "0.2"])["event_hash"]);
    assert_ne!(json(&home, &["--loss", "0.2"])["event_hash"], json(&home, &[])["event_hash"]);
}

#[test]
fn sybils_are_reported_where_there_are_any() {
    let home = Home::new();
    let report = json(&home, &["--fill", "warm", "--sybils", "0.25"]);
    assert_eq!(report["sybils"]["nodes"], 15);
    assert!(report["sybils"]["in_tables"].as_f64().is_some_and(|share| (0.15..0.35).contains(&share)));
    assert_eq!(report["sybils"]["none_honest"], 0.0, "there are fewer of them than a result holds");
    assert_eq!(report["alarmed"], 0, "they are everywhere, and gather nowhere");
    assert_eq!(json(&home, &["--fill", "warm"])["sybils"], Value::Null);
}

#[test]
fn an_eclipse_is_reported_and_its_check_decides_the_exit_code() {
    let home = Home::new();
    let small = ["sim", "eclipse", "--nodes", "1000", "--lasts", "600", "--runs", "2"];
    let with = |more: &[&str]| output(home.path(), &[&small, more].concat());
    let (code, stdout, stderr) = with(&["--json", "--threads", "2"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&stdout).expect("one JSON object");
    assert_eq!((&report["identities"], &report["addresses"], &report["allowed"]), (&272.into(), &2.into(), &20.into()));
    assert!(report["failed_seeds"].is_array());
    let moments = report["moments"].as_array().unwrap();
    assert_eq!(moments.len(), 4);
    assert!(moments.iter().all(|moment| moment["attackers_most"].as_f64().is_some_and(|most| most <= 20.0)));
    assert_eq!((&moments[3]["lookups"]["count"], &moments[3]["lookups"]["none_honest"]), (&40.0.into(), &0.0.into()));
    assert_eq!(report["runs"][1]["seed"], 2);

    let (code, stdout, stderr) = with(&["--limits", "off", "--check"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(
        stdout.starts_with("attack                 272 identities at 2 addresses ping each 60 s for 600 s\n"),
        "{stdout}"
    );
    assert!(stdout.contains("2 as they ought to be"), "{stdout}");
    // One identity a bucket is not enough for most of a table.
    let (code, stdout, stderr) = with(&["--limits", "off", "--per-bucket", "1", "--check"]);
    assert!(code == Some(1) && stdout.contains("0 as they ought to be"), "{stdout}");
    assert_eq!(
        stderr,
        "error: 2 of 2 runs failed, seeds 1, 2: the attackers did not get most of the table, so that the experiment shows \
         nothing\n"
    );
}

#[test]
fn an_unknown_scenario_is_refused_with_the_names_of_those_there_are() {
    let home = Home::new();
    let (code, said) = failure(home.path(), &["sim", "--scenario", "chrun"]);
    assert_eq!((code, said.lines().count()), (2, 1));
    assert!(
        said.starts_with("error: invalid value 'chrun' for '--scenario <NAME>' [possible values: steady, "),
        "{said}"
    );
    assert!(said.ends_with("a similar value exists: 'churn' (see --help)\n"), "{said}");
}

#[test]
fn the_text_is_short() {
    let home = Home::new();
    let (code, stdout, stderr) = output(home.path(), &["sim", "--scenario", "ring"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let names: Vec<&str> = stdout.lines().map(|line| line[..14].trim_end()).collect();
    let expected = [
        "scenario",
        "network",
        "event hash",
        "hops",
        "FINDNODEs",
        "milliseconds",
        "hop shares",
        "found",
        "joiners",
        "tables",
        "NEIGHBORS",
        "node a minute",
        "work",
    ];
    assert_eq!(names, expected);
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
    assert!(said.starts_with(&format!("error: cannot use {} as the directory for plots: ", file.display())), "{said}");
}
