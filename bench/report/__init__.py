"""`bench report`: one page and one table from the JSON files that the other measuring verbs write.

    found.py      the files of a folder, by what they are
    results.py    one row for each subject: accuracy, comparison, speed and memory side by side
    tables.py     a table that can be written as HTML or as Markdown
    figures.py    curves and bars as SVG
    sections.py   what each chapter of the page says
    page.py       the page, from page.html.j2
    readme.py     the results table of README.md, kept in step with the files it is made from

Nothing is measured here and nothing is fetched: a report is made from files, anywhere, as often as one likes.
"""
