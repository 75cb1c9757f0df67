"""A class with a parameter: every code gets a pool of containers of its own.

`qmodal run examples/translator.py --text "hello world"`
"""

import os
from collections.abc import Mapping

import qmodal

app = qmodal.App("translator")

# The words of each code, in the order of the alphabet.
TABLES = {
    "morse": (
        ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- "
        "-. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.."
    ),
    "radio": (
        "Alfa Bravo Charlie Delta Echo Foxtrot Golf Hotel India Juliett Kilo Lima Mike November "
        "Oscar Papa Quebec Romeo Sierra Tango Uniform Victor Whiskey Xray Yankee Zulu"
    ),
}
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@app.cls(scaledown_window=10)
class Translator:
    """Translates text to one code and back; its table is loaded once a container."""

    code: str = qmodal.parameter()

    @qmodal.enter()
    def load(self) -> None:
        self.table: Mapping[str, str] = dict(
            zip(ALPHABET, TABLES[self.code].split(), strict=True),
        )
        self.letters = {word: letter for letter, word in self.table.items()}
        self.served = 0
        print(f"container {os.getpid()} has loaded {self.code}")

    @qmodal.method()
    def encode(self, text: str) -> tuple[str, str]:
        """The text as words of the code, ` / ` between words, and who translated it."""
        words = [
            " ".join(self.table[letter] for letter in word if letter in self.table)
            for word in text.lower().split()
        ]
        return " / ".join(words), self._signature()

    @qmodal.method()
    def decode(self, encoded: str) -> tuple[str, str]:
        """The text of those words, and who translated it."""
        words = [
            "".join(self.letters[word] for word in group.split()) for group in encoded.split("/")
        ]
        return " ".join(words), self._signature()

    def _signature(self) -> str:
        self.served += 1
        return f"{self.code} container {os.getpid()}, its input {self.served}"


@app.local_entrypoint()
def main(text: str = "the quick brown fox") -> None:
    for code in TABLES:
        translator = Translator(code=code)
        encoded, who = translator.encode.remote(text)
        print(f"{encoded}\n    [{who}]")
        decoded, who = translator.decode.remote(encoded)
        print(f"{decoded}\n    [{who}]")
        assert decoded == text
