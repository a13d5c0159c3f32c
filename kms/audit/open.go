package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
)

// logFile is what the log needs of its file. *os.File is one; a test can have one that
// fails.
type logFile interface {
	io.WriteCloser
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
}

// openLog opens the file at path for appending, makes it if there is none, locks it
// against other logs, and moves a torn line out of it.
func openLog(path string, log *slog.Logger) (_ *os.File, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the audit log %s is not a regular file: what is written there cannot be synced", path)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("the audit log %s is in use by another process: %w", path, err)
	}
	if err := repair(file, path, info.Size(), log); err != nil {
		return nil, fmt.Errorf("repair the audit log: %w", err)
	}
	if err := syncDirectory(path); err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	return file, nil
}

// repair moves what follows the last newline to the file PATH.torn. A crash in between
// leaves it in both.
func repair(file *os.File, path string, size int64, log *slog.Logger) error {
	end, err := endOfLines(file, size)
	if err != nil || end == size {
		return err
	}
	tornPath := path + ".torn"
	torn, err := os.OpenFile(tornPath, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(torn, io.NewSectionReader(file, end, size-end))
	if err == nil {
		_, err = torn.WriteString("\n")
	}
	if err = errors.Join(err, torn.Sync(), torn.Close()); err != nil {
		return err
	}
	if err := syncDirectory(path); err != nil {
		return err
	}
	if err := errors.Join(file.Truncate(end), file.Sync()); err != nil {
		return err
	}
	log.Warn("audit log ended in part of a line: moved", slog.String("path", path),
		slog.String("to", tornPath), slog.Int64("bytes", size-end))
	return nil
}

// endOfLines returns the offset after the last newline, from the end backwards.
func endOfLines(file io.ReaderAt, size int64) (int64, error) {
	chunk := make([]byte, 64<<10)
	for end := size; end > 0; {
		start := max(0, end-int64(len(chunk)))
		part := chunk[:end-start]
		if _, err := file.ReadAt(part, start); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if at := bytes.LastIndexByte(part, '\n'); at >= 0 {
			return start + int64(at) + 1, nil
		}
		end = start
	}
	return 0, nil
}

// syncDirectory makes the directory entry of a new file durable.
func syncDirectory(path string) error {
	directory, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}
