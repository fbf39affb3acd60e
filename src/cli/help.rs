//! What shells and `man` know of the command, from the same declarations by which it reads its arguments.

use std::io::Write;

use clap::Command;
use clap_complete::Shell;

/// The completions of a shell, as a script that it reads.
pub(crate) fn completions(mut args: Command, shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut args, "ringway", &mut text);
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if shell == Shell::Fish {
        text += &fish_arguments(&args);
    }
    text
}

/// What fish is not told by its generator: the words that a command takes as its argument, and that none takes a file there.
fn fish_arguments(args: &Command) -> String {
    let mut text = String::new();
    for command in args.get_subcommands().filter(|command| command.get_name() != "help") {
        let values = command.get_positionals().flat_map(|arg| arg.get_possible_values());
        let words: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
        let words = if words.is_empty() { String::new() } else { format!(" -a \"{}\"", words.join(" ")) };
        text +=
            &format!("complete -c ringway -n \"__fish_ringway_using_subcommand {}\" -f{words}\n", command.get_name());
    }
    text
}

/// One page: the commands are few enough to be read together.
pub(crate) fn man(args: &Command) -> Result<String, String> {
    let mut text = Vec::new();
    let write = |text: &mut Vec<u8>| {
        let page = clap_mangen::Man::new(args.clone());
        page.render_title(text)?;
        page.render_name_section(text)?;
        page.render_synopsis_section(text)?;
        page.render_description_section(text)?;
        page.render_options_section(text)?;
        for command in args.get_subcommands() {
            let name = format!("ringway {}", command.get_name());
            writeln!(text, ".SH \"{}\"", name.to_uppercase())?;
            let page = clap_mangen::Man::new(command.clone().bin_name(name));
            let mut sections = Vec::new();
            page.render_synopsis_section(&mut sections)?;
            page.render_description_section(&mut sections)?;
            page.render_options_section(&mut sections)?;
            // Sections of a command are parts of its own.
            text.extend_from_slice(String::from_utf8_lossy(&sections).replace(".SH ", ".SS ").as_bytes());
        }
        page.render_extra_section(text)
    };
    write(&mut text).map_err(|e: std::io::Error| e.to_string())?;
    String::from_utf8(text).map_err(|e| e.to_string())
}
