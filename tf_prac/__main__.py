"""`python -m tf_prac` is `tf-prac`."""

from tf_prac.cli.main import run

if __name__ == "__main__":
    run()
