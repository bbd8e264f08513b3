"""Turn photos or videos into a folder of aligned faces.
`python -m data.extract INPUT FOLDER`"""
