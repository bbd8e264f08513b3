"""What a run tells its user while it trains: metrics, warnings and the progress line."""
from gan.monitor.diagnosis import Diagnosis
from gan.monitor.metrics_log import Metrics, Notes
from gan.monitor.progress_line import ProgressLine


class RunLog:
    """The log of a run: metrics.csv, timing.csv, notes.txt, the progress line and messages.

    folder: the RunFolder
    terms: names of the terms of the reconstruction loss
    step: the step to resume from; later rows and warnings are cut off
    say: function that prints a line
    """

    def __init__(self, folder, terms, step, say):
        self._folder, self._terms, self._say = folder, terms, say
        self.metrics, self.notes = Metrics(folder.path, step, terms), Notes(folder.path, step)
        self.progress, self._diagnosis = ProgressLine(terms), Diagnosis()

    @property
    def curves(self):
        """The metrics of all steps: gan.monitor.metrics_log.Curves."""
        return self.metrics.curves

    def say(self, line):
        """Print a line, below the progress line."""
        self.progress.end()
        self._say(line)

    def add(self, rows, total, speed):
        """Write rows of metrics and update the progress line. The arguments are those of ProgressLine.show."""
        for row in rows:
            self.metrics.add(row)
        self.progress.show(total, speed, *rows)

    def note(self, lines):
        """Print warnings and add them to notes.txt."""
        for line in lines:
            self.say(line)
            self.notes.add(len(self.curves), line)

    def warn(self, at_the_end=False):
        """Give the warnings that the curves call for now."""
        self.note(self._diagnosis.at_the_end(self.curves) if at_the_end else self._diagnosis.look(self.curves))

    def rewind(self, step):
        """Cut the metrics off after a step, because of a rollback. The undone steps took their time too."""
        spent = self.metrics.elapsed()
        self.metrics.close()
        self.metrics = Metrics(self._folder.path, step, self._terms, spent)

    def close(self):
        """End the progress line and close the files."""
        self.progress.end()
        self.metrics.close()
