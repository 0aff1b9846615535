//! How this list asks the store.

use redis::Value;
use ulid::Ulid;

use super::{EndMark, SharedOutstanding, answers};
use crate::shared::{Script, StoreUnavailable, Use};

/// The keys and arguments of a script.
pub(super) struct Call {
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Call {
    pub(super) fn argument(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.arguments.push(argument.as_ref().to_vec());
        self
    }

    pub(super) fn number(self, number: i64) -> Self {
        self.argument(number.to_string())
    }

    pub(super) fn keys(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.keys.extend(names);
        self
    }
}

impl SharedOutstanding {
    /// The beginning of every call.
    pub(super) fn call(&self) -> Call {
        let names = self.names(Ulid::nil()).len();
        let keys = vec![self.index.clone(), self.me.clone()];
        Call { keys, arguments: vec![names.to_string().into_bytes()] }
    }

    pub(super) async fn run(
        &self,
        text: &'static str,
        call: Call,
    ) -> Result<Value, StoreUnavailable> {
        let arguments: Vec<&[u8]> = call.arguments.iter().map(Vec::as_slice).collect();
        let script = Script { text, keys: &call.keys, arguments: &arguments };
        self.shared.run(Use::Outstanding, script).await
    }

    pub(super) async fn word(
        &self,
        text: &'static str,
        call: Call,
    ) -> Result<Vec<u8>, StoreUnavailable> {
        let Value::BulkString(word) = self.run(text, call).await? else {
            return Err(self.nonsense());
        };
        Ok(word)
    }

    /// The word of a script that does nothing if it finds marks of this credential, and that is
    /// told to go on if they do not say that it has ended. `None`: it has. `call` is for the
    /// arguments after the first, which says whether to go on.
    pub(super) async fn word_unless_ended(
        &self,
        text: &'static str,
        id: Ulid,
        call: impl Fn(Call) -> Call,
    ) -> Result<Option<Vec<u8>>, StoreUnavailable> {
        let word = self.word(text, call(self.call().argument(""))).await?;
        let Some(marks) = answers::marks(&word) else { return Ok(Some(word)) };
        if self.marks().read(id, marks) == Some(EndMark::Ended) {
            return Ok(None);
        }
        self.word(text, call(self.call().argument("1"))).await.map(Some)
    }

    /// Runs a script that answers for each of its keys whether it did something, for entries of
    /// these credentials.
    pub(super) async fn each(
        &self,
        text: &'static str,
        ids: &[Ulid],
        arguments: &[&str],
    ) -> Result<Vec<bool>, StoreUnavailable> {
        let mut done = vec![false; ids.len()];
        for index in 0..self.names(Ulid::nil()).len() {
            // Each of them under the same key.
            let names = ids.iter().filter_map(|id| self.names(*id).into_iter().nth(index));
            let call = self.call().keys(names);
            let call = arguments.iter().fold(call, Call::argument);
            let Value::Array(answers) = self.run(text, call).await? else {
                return Err(self.nonsense());
            };
            if answers.len() != ids.len() {
                return Err(self.nonsense());
            }
            for (done, answer) in done.iter_mut().zip(answers) {
                *done |= answer == Value::Int(1);
            }
        }
        Ok(done)
    }

    pub(in crate::issue) fn nonsense(&self) -> StoreUnavailable {
        self.shared.nonsense(Use::Outstanding)
    }
}
