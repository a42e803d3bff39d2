//! `ipvsadm-save` and `ipvsadm-restore`, the scripts that come with ipvsadm.

use std::io::{self, BufWriter, Read, Write, stderr, stdin, stdout};
use std::path::Path;

use super::director;
use super::names::Names;
use super::session::Session;
use super::stop::WRONG;

/// The name that the scripts call ipvsadm by.
const IPVSADM: &str = "ipvsadm";

/// `ipvsadm-save [-n]`.
pub(super) fn save(program: &str, words: &[String]) -> io::Result<u8> {
    match save_words(words) {
        Some(words) => super::ipvsadm(IPVSADM, &words),
        None => {
            let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
            writeln!(stderr(), "{name}: Script to save the IPVS table to stdout.")?;
            writeln!(stderr(), "   With the -n option, prints out the table in numeric format.")?;
            Ok(1)
        }
    }
}

/// The words for ipvsadm; none if help is wanted.
fn save_words(words: &[String]) -> Option<Vec<String>> {
    let unknown = words.iter().any(|word| word.starts_with('-') && word != "-n");
    let numeric = words.iter().any(|word| word == "-n");
    let words = ["-S", "-n"].into_iter().take(1 + usize::from(numeric));
    (!unknown).then(|| words.map(String::from).collect())
}

/// `ipvsadm-restore`: clears the table once all of the input is there, so that what saves it into a pipe has seen it.
pub(super) fn restore() -> io::Result<u8> {
    let mut input = String::new();
    stdin().lock().read_to_string(&mut input)?;
    let (mut out, mut err) = (BufWriter::new(stdout().lock()), stderr().lock());
    let director = match director::connect() {
        Ok(director) => director,
        Err(error) => {
            err.write_all(super::unconnected(&error).message.as_bytes())?;
            return Ok(WRONG);
        }
    };
    let names = Names::system();
    let mut session = Session { program: IPVSADM, director, names, out: &mut out, err: &mut err };
    session.run(&["-C".to_owned()], io::empty())?;
    session.run(&["-R".to_owned()], without_comments(&input).as_bytes())
}

/// The input without lines that begin with `#`, its last line with an end.
fn without_comments(input: &str) -> String {
    let lines: Vec<&str> = input.lines().filter(|line| !line.starts_with('#')).collect();
    lines.join("\n").trim_end_matches('\n').to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_n_is_known_to_ipvsadm_save() {
        let words = |line: &str| save_words(&line.split_whitespace().map(String::from).collect::<Vec<_>>());
        assert_eq!(words("").unwrap(), ["-S"]);
        assert_eq!(words("x -n").unwrap(), ["-S", "-n"]);
        assert_eq!(words("-n -h"), None);
    }

    #[test]
    fn comments_are_lines_of_their_own() {
        assert_eq!(without_comments("# a\n-C\n#-D\n-Z # b\n\n\n"), "-C\n-Z # b\n");
        assert_eq!(without_comments("-C  "), "-C  \n");
        assert_eq!(without_comments(""), "\n");
    }
}
