//! `ringway completions`: the real shells read what it prints, and complete by it.

use crate::support::gateway::{BINARY, run};
use crate::support::temp_dir;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory with a shell's completions in a file of this name.
fn script(shell: &str, name: &str) -> PathBuf {
    let (code, text, complaint) = run(&["completions", shell]);
    assert_eq!((code, complaint.as_str()), (0, ""));
    let dir = temp_dir("completions");
    std::fs::write(dir.join(name), text).unwrap();
    dir
}

/// What a shell prints that runs in `dir` without any configuration of its own; it must end well, and complain of nothing.
fn shell(dir: &Path, command: &[&str]) -> String {
    let mut shell = Command::new("timeout");
    shell.arg("30").args(command).current_dir(dir).env("HOME", dir).env("TERM", "dumb").env("BASH_ENV", "");
    let path = format!("{}:{}", Path::new(BINARY).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = shell.env("PATH", path).stdin(std::process::Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{command:?}: {}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// What is completed must be the same in every shell: the words typed, of which the last is completed, and all that it may be.
const TYPED: [(&str, &[&str]); 6] = [
    ("ringway ch", &["check"]),
    ("ringway completions z", &["zsh"]),
    ("ringway check --pri", &["--print"]),
    ("ringway explain GET / --li", &["--listener"]),
    ("ringway run --config gatew", &["gateway.yaml"]),
    ("ringway completions ", &["bash", "elvish", "fish", "powershell", "zsh"]),
];

#[test]
fn bash_completes() {
    let dir = script("bash", "ringway.bash");
    std::fs::write(dir.join("gateway.yaml"), "").unwrap();
    for (typed, expected) in TYPED {
        let words: Vec<&str> = typed.split(' ').collect();
        let [.., before, last] = words.as_slice() else { panic!() };
        // As Readline asks it, whose own part is only to show the answer.
        let ask = format!(
            "source ringway.bash; complete -p ringway >/dev/null || exit 1; COMP_WORDS=({typed} \"\"); \
             COMP_CWORD={}; _ringway ringway '{last}' '{before}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.len() - 1
        );
        let said = shell(&dir, &["bash", "--norc", "-c", &ask]);
        let mut said: Vec<&str> = said.lines().filter(|word| !word.starts_with('-') || last.starts_with('-')).collect();
        said.sort_unstable();
        assert_eq!(said, expected, "{typed}");
    }
}

#[test]
fn fish_completes() {
    let dir = script("fish", "ringway.fish");
    std::fs::write(dir.join("gateway.yaml"), "").unwrap();
    shell(&dir, &["fish", "--no-config", "-n", "ringway.fish"]);
    for (typed, expected) in TYPED {
        let said = shell(&dir, &["fish", "--no-config", "-c", &format!("source ringway.fish; complete -C '{typed}'")]);
        let said: Vec<&str> = said.lines().map(|line| line.split('\t').next().unwrap()).collect();
        assert_eq!(said, expected, "{typed}");
    }
    // No file is what a command takes as its argument.
    let said = shell(&dir, &["fish", "--no-config", "-c", "source ringway.fish; complete -C 'ringway explain '"]);
    assert!(!said.contains("ringway.fish"), "{said}");
}

/// A zsh with a terminal, in which a line is typed with a TAB at its end, and which says what it then would run.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty -b inner zsh -f -i
zpty -w inner 'stty -echo; PS1= PROMPT_EOL_MARK=; fpath=($PWD/functions $fpath); autoload -Uz compinit; compinit -u -D; [[ $_comps[ringway] == _ringway ]] || exit 1'
zpty -w inner 'ringway() { print -r -- "[BE""GIN]""$*""[E""ND]" }; print "[REA""DY]"'
zpty -r inner said '*READY*'
for typed in "$@"; do
    zpty -w inner "$typed"$'\t'
    zpty -r inner said '*END\]*'
    said=${said##*\[BEGIN\]}
    print -r -- "${said%%\[END\]*}"
done
zpty -d inner
"#;

#[test]
fn zsh_completes() {
    let dir = script("zsh", "_ringway");
    std::fs::create_dir(dir.join("functions")).unwrap();
    std::fs::rename(dir.join("_ringway"), dir.join("functions/_ringway")).unwrap();
    std::fs::write(dir.join("gateway.yaml"), "").unwrap();
    shell(&dir, &["zsh", "-f", "-n", "functions/_ringway"]);
    // Where there is a choice, it is shown and nothing is typed.
    let one: Vec<_> = TYPED.into_iter().filter(|(_, expected)| expected.len() == 1).collect();
    std::fs::write(dir.join("type.zsh"), ZSH).unwrap();
    let mut command = vec!["zsh", "-f", "type.zsh"];
    command.extend(one.iter().map(|(typed, _)| *typed));
    let said = shell(&dir, &command);
    let expected: Vec<String> = one
        .iter()
        .map(|(typed, expected)| {
            let (before, _) = typed.rsplit_once(' ').unwrap();
            format!("{before} {}", expected[0]).replacen("ringway ", "", 1)
        })
        .collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    // As it is read by `source`, after compinit.
    let sourced = "autoload -Uz compinit; compinit -u -D; source <(ringway completions zsh); print $_comps[ringway]";
    assert_eq!(shell(&dir, &["zsh", "-f", "-c", sourced]).trim(), "_ringway");
}

#[test]
fn a_shell_that_is_not_known_is_wrong_usage() {
    let (code, _, complaint) = run(&["completions", "tcsh"]);
    assert!(code == 2 && complaint.contains("bash, elvish, fish, powershell, zsh"), "{complaint}");
}
