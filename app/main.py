"""What Streamlit runs for each visitor and each click. The pages are in app/pages.py."""

from genrebeam.app.pages import run

run()
