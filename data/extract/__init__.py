"""Extract aligned faces from photos or videos into a folder.
`python -m data.extract INPUT FOLDER`"""
